"""The pages of ``--web``: the one around the terminal, and the ones that say why there is none. Nothing is fetched
from other hosts: font, style and terminal come from the library's own files.
"""

from __future__ import annotations

from string import Template
from typing import Final

POLICY: Final = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy; the terminal sets styles on its elements."""

STYLE: Final = """
@font-face { font-family: 'Roboto Mono'; font-weight: 100 700;
  src: url('/static/fonts/RobotoMono-VariableFont_wght.ttf'); }
html, body { margin: 0; height: 100%; background: #121212; color: #e0e0e0; font: 15px/1.5 'Roboto Mono', monospace; }
.textual-terminal { position: absolute; inset: 0; opacity: 0; }
body.-first-byte .textual-terminal { opacity: 1; }
.notice { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; z-index: 10; }
.notice > div { max-width: 40em; padding: 2em 3em; background: #1e1e1e; border: 1px solid #444; }
.notice p { color: #a0a0a0; margin-bottom: 0; }
.notice h1 { font-size: 1.1em; margin: 0; background: none; }
.notice button { margin-top: 1.5em; padding: .5em 1.5em; font: inherit; color: #fff; background: #0178d4; border: 0; }
.notice code { color: #e0e0e0; }
body.-first-byte .opening, .closed { display: none; }
body.-closed .closed { display: flex; background: #121212cc; }
"""

_DECK: Final = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>flight deck</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/css/xterm.css"><style>$style</style>
<script src="/static/js/textual.js"></script></head>
<body>
<div class="notice opening"><div><h1>flight deck</h1><p>opening …</p></div></div>
<div class="notice closed"><div><h1>The session has ended.</h1>
<p>The deck was quit, or the connection to it was lost.</p><button id="again">Open again</button></div></div>
<div id="terminal" class="textual-terminal" data-font-size="$size"></div>
<script nonce="$nonce">
const where = location.origin.replace(/^http/, "ws") + "/ws";
document.getElementById("terminal").dataset.sessionWebsocketUrl = where;
document.getElementById("again").onclick = () => location.reload();
const begin = window.onload;  // the terminal measures its font: it must be there before it begins
window.onload = async (event) => {
  const fonts = ["400", "700"].map((weight) => document.fonts.load(weight + " $size" + "px 'Roboto Mono'"));
  await Promise.allSettled(fonts);
  begin(event);
};
const focus = () => document.querySelector(".xterm-helper-textarea")?.focus();  // keys work without a click
new MutationObserver(focus).observe(document.body, { attributes: true, attributeFilter: ["class"] });
</script></body></html>
""")

_NOTICE: Final = Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>flight deck</title>
<link rel="icon" href="data:,"><style>$style</style></head>
<body><div class="notice"><div><h1>$title</h1><p>$words</p></div></div></body></html>
""")


def deck_page(nonce: str, size: int) -> str:
    """The page with the terminal. ``size``: of its font, in pixels."""
    return _DECK.substitute(style=STYLE, nonce=nonce, size=size)


def notice_page(title: str, words: str) -> str:
    """A page with a message; both are trusted HTML."""
    return _NOTICE.substitute(style=STYLE, title=title, words=words)


NEEDS_TOKEN: Final = (
    "This flight deck needs its token",
    "Open the address that <code>appliance --role=tui --web</code> printed when it was started; it ends with "
    "<code>?token=…</code>. After a restart there is a new one.",
)
