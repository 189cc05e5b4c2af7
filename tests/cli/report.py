"""Reads what `lookout report` has written, as others would, and prints what it found as JSON.

    report.py html FILE        with the parser of Python's standard library
    report.py perfetto FILE    with the classes that are made from Perfetto's own definitions
"""

import html.parser
import json
import sys


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.elements, self.attributes, self.texts, self.titles = [], set(), [], []
        self.open, self.unbalanced = [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes |= {f"{tag}.{name}" for name, _ in attributes}
        self.titles += [value for name, value in attributes if name == "title"]
        if tag not in ("meta", "col"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        if self.open[-1:] != ["style"] and data.strip():
            self.texts.append(data)


def read_html(text):
    page = Page()
    page.feed(text)
    page.close()
    counts = {tag: page.elements.count(tag) for tag in page.elements}
    return {
        "elements": counts,
        "attributes": sorted(page.attributes),
        "texts": page.texts,
        "titles": page.titles,
        "unbalanced": page.unbalanced + page.open,
    }


def value_of(annotation):
    if annotation.array_values:
        return [value_of(one) for one in annotation.array_values]
    field = annotation.WhichOneof("value")
    return getattr(annotation, field) if field else None


def read_perfetto(data):
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

    trace = protos.Trace()
    trace.ParseFromString(data)
    tracks, slices, instants, open_slices, clocks = {}, [], [], {}, {}
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id, packet
        if packet.HasField("clock_snapshot"):
            clocks = {clock.clock_id: clock.timestamp for clock in packet.clock_snapshot.clocks}
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            assert track.uuid not in tracks, track
            assert not track.parent_uuid or track.parent_uuid in tracks, track
            tracks[track.uuid] = {"name": track.name, "parent": track.parent_uuid}
        if packet.HasField("track_event"):
            event = packet.track_event
            found = {
                "track": tracks[event.track_uuid]["name"],
                "name": event.name,
                "category": list(event.categories),
                "begin": packet.timestamp,
                "args": {one.name: value_of(one) for one in event.debug_annotations},
            }
            if event.type == protos.TrackEvent.TYPE_SLICE_BEGIN:
                assert event.track_uuid not in open_slices, event
                open_slices[event.track_uuid] = found
            elif event.type == protos.TrackEvent.TYPE_SLICE_END:
                slices.append({**open_slices.pop(event.track_uuid), "end": packet.timestamp})
            elif event.type == protos.TrackEvent.TYPE_INSTANT:
                instants.append(found)
            else:
                raise AssertionError(event)
    assert not open_slices, open_slices
    named = [
        {"name": one["name"], "parent": tracks[one["parent"]]["name"] if one["parent"] else None}
        for one in tracks.values()
    ]
    clocks = {str(clock): time for clock, time in clocks.items()}
    return {"tracks": named, "slices": slices, "instants": instants, "clocks": clocks}


kind, path = sys.argv[1:]
with open(path, "rb") as file:
    content = file.read()
print(json.dumps(read_html(content.decode()) if kind == "html" else read_perfetto(content)))
