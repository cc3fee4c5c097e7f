"""Kinds of errors: which phrases in a failed request's message or status make which kind.

A phrase is found whatever its case, as whole words: everything but letters, digits and other characters above
ASCII counts as a blank, in phrases and messages alike. `%` in a phrase stands for anything.
"""

import re
from dataclasses import dataclass

#: What every failed request is that no phrase fits.
OTHER = "other"

#: The first kind with a phrase that fits counts.
DEFAULT = (
    "context_length=context length%|context window%|maximum context%|prompt is too long|too many tokens; "
    "content_filter=content filter%|content policy|content management policy|moderation%|safety%; "
    "rate_limited=429|rate limit%|ratelimit%|too many requests|quota%|throttl%; "
    "authentication=401|403|unauthorized|unauthenticated|authentication%|forbidden|permission denied|"
    "api key; "
    "timeout=408|504|timeout%|timed out|time out|deadline exceeded; "
    "provider_5xx=500|502|503|520|522|529|overloaded%|internal server error|internal error|bad gateway|"
    "service unavailable|server error"
)

#: ASCII that separates words. In SQL, `translate()` turns it into as many blanks.
SEPARATORS = "".join(chr(code) for code in range(1, 128) if not chr(code).isalnum() and chr(code) != " ")

#: Characters of an error message that are looked at.
MESSAGE_CHARACTERS = 2000

MAX_KINDS = 30
MAX_PHRASES = 300
_MAX_PHRASE = 100


@dataclass(frozen=True, slots=True)
class ErrorKind:
    name: str
    phrases: tuple[str, ...]

    def patterns(self) -> list[str]:
        """Return what LIKE finds in a message whose separators are blanks, with a blank at either end."""
        return [_pattern(phrase) for phrase in self.phrases]


def _pattern(phrase: str) -> str:
    words = "%".join(part.translate(_BLANKS) for part in phrase.lower().split("%"))
    start, end = ("" if words.startswith("%") else "% "), ("" if words.endswith("%") else " %")
    return f"{start}{words}{end}"


_BLANKS = str.maketrans(SEPARATORS, " " * len(SEPARATORS))


def parse_error_kinds(text: str) -> tuple[ErrorKind, ...]:
    """Read `name=phrase|phrase`, one a line or separated by `;`; ValueError says what is wrong."""
    kinds: list[ErrorKind] = []
    for entry in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        name, equals, rest = entry.partition("=")
        name = name.strip()
        phrases = tuple(phrase.strip() for phrase in rest.split("|"))
        if not equals or not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", name):
            raise ValueError(f"{entry[:60]!r} is not name=phrase|phrase with a name of a-z, 0-9 and _")
        if name == OTHER or any(kind.name == name for kind in kinds):
            raise ValueError(f"the kind {name!r} is there already")
        for phrase in phrases:
            if not any(character.isalnum() for character in phrase) or len(phrase) > _MAX_PHRASE:
                raise ValueError(
                    f"the phrase {phrase[:60]!r} of {name} has no letter and no digit, or more than "
                    f"{_MAX_PHRASE} characters"
                )
        kinds.append(ErrorKind(name, phrases))
    if len(kinds) > MAX_KINDS or sum(len(kind.phrases) for kind in kinds) > MAX_PHRASES:
        raise ValueError(f"these are more than {MAX_KINDS} kinds or {MAX_PHRASES} phrases")
    return tuple(kinds)
