"""A page as its elements, without a browser."""

from html.parser import HTMLParser

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Elements as (tag, attributes), the text inside each, and whether every tag that opens is closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.unbalanced = [], [], []
        self.feed(text)
        self.unbalanced += [tag for tag, _ in self.open]

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), ""]
        self.elements.append(element)
        if tag not in VOID:
            self.open.append((tag, element))

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        if not self.open or self.open.pop()[0] != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data):
        for _, element in self.open:
            element[2] += data

    def all(self, tag, style=""):
        return [
            (attrs, text)
            for name, attrs, text in self.elements
            if name == tag and (not style or style in (attrs.get("class") or "").split())
        ]
