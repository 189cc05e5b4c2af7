//! A batch of events as it came: whoever forwards, stores or chooses needs no more than the head of each.

use std::ops::Range;

use containerd_shim_protos::protobuf::{self, CodedInputStream, Message as _};
use ttrpc::r#async::{Client, StreamInner};

use crate::api::Event;

/// Field numbers of EventBatch and Event, as `proto/lookout/v1/observer.proto` has them, with their wire types.
mod tag {
    pub(super) const EVENTS: u32 = 1 << 3 | 2;
    pub(super) const SEQ: u32 = 1 << 3;
    pub(super) const EPOCH: u32 = 2 << 3 | 2;
    pub(super) const TYPE: u32 = 3 << 3 | 2;
    pub(super) const TIME: u32 = 4 << 3;
}

/// Events in the encoding of `proto/lookout/v1/observer.proto`, each decoded when it is asked for.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    heads: Vec<Head>,
}

/// Where an event and the texts of its head are in the batch.
#[derive(Debug)]
struct Head {
    event: Range<usize>,
    seq: u64,
    time_ns: u64,
    epoch: Range<usize>,
    type_: Range<usize>,
}

/// One event of a [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// As Event has it: 0 for a hello and for a subscriber's own gap.
    pub seq: u64,
    /// `CLOCK_REALTIME`, in nanoseconds since 1970.
    pub time_ns: u64,
    /// The shim's run.
    pub epoch: &'a [u8],
    /// Its type, such as `process.start`.
    pub type_: &'a [u8],
    /// The whole, an `Event` message.
    pub bytes: &'a [u8],
}

impl Encoded<'_> {
    /// All that it says.
    ///
    /// # Errors
    ///
    /// What is wrong with its encoding.
    pub fn decode(&self) -> protobuf::Result<Event> {
        Event::parse_from_bytes(self.bytes)
    }
}

impl Batch {
    /// Finds the events in an EventBatch message.
    pub(super) fn new(bytes: Vec<u8>) -> protobuf::Result<Self> {
        let mut heads = Vec::new();
        let mut input = CodedInputStream::from_bytes(&bytes);
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            if tag == tag::EVENTS {
                let event = skip_bytes(&mut input)?;
                heads.push(Head::read(&bytes, event)?);
            } else {
                skip(tag, &mut input)?;
            }
        }
        drop(input);
        Ok(Self { bytes, heads })
    }

    /// Whether it has no event: a heartbeat.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The events, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Encoded<'_>> {
        self.heads.iter().map(|head| self.encoded(head))
    }

    /// Keeps what `is_wanted`.
    pub(super) fn retain(&mut self, mut is_wanted: impl FnMut(Encoded<'_>) -> bool) {
        let mut heads = std::mem::take(&mut self.heads);
        heads.retain(|head| is_wanted(self.encoded(head)));
        self.heads = heads;
    }

    fn encoded(&self, head: &Head) -> Encoded<'_> {
        let bytes = |range: &Range<usize>| &self.bytes[range.clone()];
        let Head { event, seq, time_ns, epoch, type_ } = head;
        Encoded { seq: *seq, time_ns: *time_ns, epoch: bytes(epoch), type_: bytes(type_), bytes: bytes(event) }
    }
}

impl Head {
    fn read(batch: &[u8], event: Range<usize>) -> protobuf::Result<Self> {
        let start = event.start;
        let mut input = CodedInputStream::from_bytes(&batch[event.clone()]);
        let in_batch = |range: Range<usize>| start + range.start..start + range.end;
        let mut head = Self { event, seq: 0, time_ns: 0, epoch: start..start, type_: start..start };
        while let Some(tag) = input.read_raw_tag_or_eof()? {
            match tag {
                tag::SEQ => head.seq = input.read_uint64()?,
                tag::TIME => head.time_ns = input.read_uint64()?,
                tag::EPOCH => head.epoch = in_batch(skip_bytes(&mut input)?),
                tag::TYPE => head.type_ = in_batch(skip_bytes(&mut input)?),
                other => skip(other, &mut input)?,
            }
        }
        Ok(head)
    }
}

/// Goes past bytes with their length before them, and says where they are.
fn skip_bytes(input: &mut CodedInputStream<'_>) -> protobuf::Result<Range<usize>> {
    let length = input.read_raw_varint32()?;
    let start = position(input);
    input.skip_raw_bytes(length)?;
    Ok(start..position(input))
}

fn skip(tag: u32, input: &mut CodedInputStream<'_>) -> protobuf::Result<()> {
    use protobuf::rt::{WireType, skip_field_for_tag};
    // The common one, without a look at its bytes.
    if tag & 7 == WireType::LengthDelimited as u32 {
        return skip_bytes(input).map(drop);
    }
    skip_field_for_tag(tag, input)
}

/// Within the bytes that the input was made of, which are in memory.
fn position(input: &CodedInputStream<'_>) -> usize {
    usize::try_from(input.pos()).unwrap_or(usize::MAX)
}

/// A subscription's answers.
pub struct Batches {
    stream: StreamInner,
    /// The connection ends with it.
    _client: Client,
}

impl Batches {
    pub(super) fn new(stream: StreamInner, client: Client) -> Self {
        Self { stream, _client: client }
    }

    /// The next batch; `None` when the shim ended the stream.
    ///
    /// # Errors
    ///
    /// The status with which the shim ended it, a broken connection, or a batch that is none.
    pub async fn next(&mut self) -> ttrpc::Result<Option<Batch>> {
        match self.stream.recv().await {
            Ok(bytes) => Batch::new(bytes).map(Some).map_err(|error| ttrpc::Error::Others(error.to_string())),
            Err(ttrpc::Error::Eof) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Batches").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
