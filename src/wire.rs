//! Protobuf's wire format: appends fields to bytes, and finds fields in bytes.
//!
//! Events are written by this module, because a container can cause very many of them in a short
//! time. A generated message needs an allocation for each string and each nested message, and these
//! allocations were nine tenths of the cost of an event. The fields of a message may be written in
//! any order.

/// Writes the fields of one message at the end of `bytes`.
#[derive(Debug)]
pub struct Writer<'a>(&'a mut Vec<u8>);

// The wire types of protobuf.
const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const FIXED_32: u32 = 5;

impl<'a> Writer<'a> {
    /// A writer that appends to `bytes`.
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Writes a field of any unsigned type. 0 is not written, because an absent field means 0.
    pub fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.optional_number(field, Some(value));
        }
    }

    /// Writes an `int32` field. 0 is not written.
    pub fn signed(&mut self, field: u32, value: i32) {
        self.number(field, sign_extended(value));
    }

    /// Writes an `optional int32`, even if it is 0. `None` is not written.
    pub fn optional_signed(&mut self, field: u32, value: Option<i32>) {
        self.optional_number(field, value.map(sign_extended));
    }

    /// Writes an `optional` number, even if it is 0. `None` is not written.
    pub fn optional_number(&mut self, field: u32, value: Option<u64>) {
        if let Some(value) = value {
            self.0.extend_from_slice(Varints::default().key(field, VARINT).push(value).written());
        }
    }

    /// Writes a `bool`. `false` is not written, because an absent field means `false`.
    pub fn flag(&mut self, field: u32, value: bool) {
        self.number(field, value.into());
    }

    /// Writes a string or bytes. An empty value is not written, because an absent field means
    /// empty.
    pub fn bytes(&mut self, field: u32, value: impl AsRef<[u8]>) {
        if !value.as_ref().is_empty() {
            self.optional_bytes(field, Some(value));
        }
    }

    /// Writes `optional` bytes or an element of a `repeated` field, even if it is empty. `None` is
    /// not written.
    pub fn optional_bytes(&mut self, field: u32, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            let value = value.as_ref();
            let mut head = Varints::default();
            head.key(field, LENGTH_DELIMITED).push(value.len() as u64);
            self.0.extend_from_slice(head.written());
            self.0.extend_from_slice(value);
        }
    }

    /// Writes a nested message. `fields` writes its fields.
    pub fn message(&mut self, field: u32, fields: impl FnOnce(&mut Writer<'_>)) {
        self.0.extend_from_slice(Varints::default().key(field, LENGTH_DELIMITED).written());
        let length_at = self.0.len();
        // Reserves two bytes for the length. A varint of two bytes is also a valid encoding of a
        // length below 128, so the message has to be moved only if it has 16 KiB or more.
        self.0.extend_from_slice(&[0; 2]);
        let begin = self.0.len();
        fields(&mut Writer(self.0));
        let length = self.0.len() - begin;
        if length < 1 << 14 {
            let [low, high, ..] = (length << 1).to_le_bytes();
            self.0[length_at..begin].copy_from_slice(&[low >> 1 | 0x80, high]);
            return;
        }
        let end = self.0.len();
        self.0.extend_from_slice(Varints::default().push(length as u64).written());
        // The length was appended after the message. The rotation moves it before the message.
        let more = self.0.len() - end;
        self.0[begin..].rotate_right(more);
        self.0.drain(length_at..begin);
    }

    /// Appends fields that are encoded already.
    pub fn fields(&mut self, written: &[u8]) {
        self.0.extend_from_slice(written);
    }
}

/// A buffer for the one or two varints at the beginning of a field: its key, and its value or
/// length. Appending both at once saves a quarter of the cost of an event.
#[derive(Default)]
struct Varints {
    bytes: [u8; 20],
    length: usize,
}

impl Varints {
    fn key(&mut self, field: u32, wire_type: u32) -> &mut Self {
        self.push(u64::from(field << 3 | wire_type))
    }

    fn push(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.byte(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.byte(value.to_le_bytes()[0]);
        self
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The value of a field in an encoded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number or a bool, encoded as a varint. A negative number is sign-extended to 64 bits.
    Number(u64),
    /// A string, bytes, a message, or the 4 or 8 bytes of a number of fixed length.
    Bytes(&'a [u8]),
}

/// Reads the next field of a message: its number and its value. Returns `None` at the end of the
/// message, or if it does not continue with a valid field; `message` is unchanged then.
#[must_use]
pub fn next_field<'a>(message: &mut &'a [u8]) -> Option<(u32, Value<'a>)> {
    let mut rest = *message;
    let key = take_varint(&mut rest)?;
    let value = match u32::try_from(key & 7) {
        Ok(VARINT) => Value::Number(take_varint(&mut rest)?),
        Ok(LENGTH_DELIMITED) => {
            let length = usize::try_from(take_varint(&mut rest)?).ok()?;
            Value::Bytes(rest.split_off(..length)?)
        }
        Ok(FIXED_64) => Value::Bytes(rest.split_off(..8)?),
        Ok(FIXED_32) => Value::Bytes(rest.split_off(..4)?),
        _ => return None,
    };
    *message = rest;
    Some((u32::try_from(key >> 3).ok()?, value))
}

/// The value of the first field with this number in a message; `None` if the message has no such
/// field.
#[must_use]
pub fn field(mut message: &[u8], number: u32) -> Option<Value<'_>> {
    std::iter::from_fn(|| next_field(&mut message))
        .find(|(other, _)| *other == number)
        .map(|(_, value)| value)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The number of 64 bits as which protobuf encodes an `int32`, also a negative one.
fn sign_extended(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

#[cfg(test)]
mod tests;
