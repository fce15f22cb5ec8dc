"""Names of anything as file names, and back.

In:  block, tap and member names, which may hold slashes, stars, spaces or any alphabet.
Out: file names of ``[A-Za-z0-9._@-]`` and percent codes, one for each name.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

MANIFEST = "manifest.json"
DONE = "DONE"
_RESERVED = frozenset({MANIFEST, DONE, ".", ".."})
_LONGEST = 240


def safe_name(name: str) -> str:
    """Return the file name that stands for a name.

    Characters outside ``[A-Za-z0-9._@-]`` are percent-encoded, and so is the first character of
    names that mean something else (``.``, ``..``, the store's own files), so the result is always
    one file directly inside its folder.

    Raises
    ------
    ValueError
        If the name is empty, or its file name would be too long for a file system.

    Examples
    --------
    >>> safe_name("base/cnn/fc.1@aligned")
    'base%2Fcnn%2Ffc.1@aligned'
    """
    if not name:
        raise ValueError(f"a name must have at least one character; got name={name!r}; give it one")
    encoded = quote(name, safe="@", encoding="utf-8", errors="surrogatepass").replace("~", "%7E")
    if encoded in _RESERVED:
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if len(encoded) > _LONGEST:
        raise ValueError(
            f"a name must fit in a file name of {_LONGEST} characters once percent-encoded; "
            f"got {len(encoded)} for name={name!r}; use a shorter name"
        )
    return encoded


def from_safe_name(encoded: str) -> str:
    """Return the name that `safe_name` made this file name of."""
    return unquote(encoded, encoding="utf-8", errors="surrogatepass")
