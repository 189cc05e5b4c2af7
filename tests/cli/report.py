"""Reads what `lookout report` has written, as others would, and prints what it found as JSON.

    report.py html FILE        with the parser of Python's standard library
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


_, path = sys.argv[1:]
with open(path, "rb") as file:
    print(json.dumps(read_html(file.read().decode())))
