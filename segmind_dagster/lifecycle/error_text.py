"""What a provider's error text is about: its machines, a moderator's verdict, or the inputs. Wording only.

The rule behind the tables, in this order:

1. A word for the machinery (GPU, memory, worker, network, time-out, quota) is about the machinery, whatever stands
   beside it: a crashed moderation service has judged nothing.
2. A moderator's verdict needs a subject of moderation and a verdict on it ("NSFW" and "detected", "safety filter" and
   "blocked"), close together in one clause. A parameter that is called `safety_checker` is neither.
3. A complaint about inputs compares something with what is allowed: a demand ("must be"), a limit ("exceeds"), a kind
   ("not supported"), something that is missing ("no face found"), or an input that cannot be read.

Quoted text is what the user sent, so it is removed before the search. What follows from a topic is in `failures`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

Topic = Literal["machine", "moderation", "inputs"]

# enough for any message; one that repeats the prompt may be longer
_LONGEST = 4000
# the longest stretch of a clause between two words that belong together
_GAP = r"[^.;!?]{0,60}?"

_QUOTE_MARKS: Final = str.maketrans(dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"))
# a JSON document within the text: the message is under one of these names
_IN_JSON = re.compile(r"""(['"])(?:msg|message|error|reason|detail|code|title|type)\1\s*:\s*(['"])(.{0,500}?)\2""")
# a quote opens after and closes before a non-letter: the apostrophe in "model's" does neither
_QUOTED = re.compile(
    r"""(?<!\w)'.*?'(?!\w)|(?<!\w)".*?"(?!\w)|`[^`]*`"""
    r"""|\u201c[^\u201d]*\u201d|\u201e[^\u201c\u201d]*[\u201c\u201d]|\u00ab[^\u00bb]*\u00bb""",
    re.DOTALL,
)
# a fully quoted message is still a message
_SAYS_SOMETHING = re.compile(r"\b(?!(?:error|message|reason|failed|detail)\b)\w+")
_JOINTS = re.compile(r"[_\-\u2010-\u2015*`]+|\s+")


def _any(words: str) -> str:
    """One of these, in a pattern: separated by bars, over any number of lines."""
    return f"({'|'.join(word.strip() for word in words.split('|'))})"


_SUBJECT = _any(r"""
    nsfw|not safe for work|nud(?:e|ity)|porn\w*|sexual\w*|erotic\w*|explicit (?:content|material|imagery)|violence|gore
    |self harm|hate speech|harassment|copyrighted|trademarked|celebrit(?:y|ies)|public figures?|real (?:people|persons?)
    |minors|child (?:safety|abuse)|csam|illegal activit(?:y|ies)|weapons?
""")
_TRAIT = _any(r"""
    sensitive|inappropriate|harmful|unsafe|offensive|objectionable|disallowed|prohibited|forbidden|explicit|adult
    |sexual\w*|violent|hateful|abusive|graphic|nsfw|copyrighted|restricted|banned|illicit
""")
_STUFF = _any(r"""
    content|material|imagery|images?|photos?|words?|terms?|language|prompts?|text|subjects?|topics?|concepts?
""")
_WORK = _any(r"""
    requests?|prompts?|images?|photos?|pictures?|videos?|audio|text|content|inputs?|outputs?|generations?|results?
""")
_IS = _any(r"""
    was|were|is|are|has|have|been|be|being|got|may|might|could|to|as|too|deemed|considered|marked|seems?|appears?|looks?
    |contain\w*|potentially|likely|automatically|something|hit|it|the|this|your|prompt|image|request|content
""")
_TECHNICAL = _any("size|format|type|dimensions?|values?|resolution|length|ratio|parameters?|number|encoding|range")
_MODERATOR = r"(safety|moderation|moderator|content|nsfw|guardrails?|censorship|abuse)\b"
_ITS_MEANS = _any(r"""
    systems?|filter(?:s|ing)?|check(?:s|er|ers)?|classifiers?|guards?|guidelines?|review|polic(?:y|ies)|rules?|layer
    |model|service
""")
_STOPPED = _any(r"""
    flagged|blocked|rejected|refused|denied|declined|filtered|censored|moderated|removed|stopped|caught|withheld
    |suppressed
""")
_SEEN = r"detected|found|present|identified|recognized|violation"
_RULES = _any("polic(?:y|ies)|guidelines?|standards|rules|terms")
_BREACH = _any(r"""
    violat\w*|breach\w*|contraven\w*|infring\w*|against|conflicts? with|breaks?|prohibited|disallowed
    |(?:not|n't) (?:comply|allowed|permitted)
""")
_OF_CONTENT = _any(r"""
    content|usage|use|safety|moderation|community|acceptable|responsible|ai|openai|google|provider'?s?|platform'?s?|our
    |service|trust
""")
_INPUT = _any(r"""
    images?|pictures?|photos?|videos?|audio|clips?|masks?|files?|urls?|uris?|links?|inputs?|prompts?|text|pdf|documents?
    |media|json|base ?64|frames?|attachments?|fonts?|lora|payload|body|parameters?|fields?|arguments?|voice|speech
""")
_BODY = _any("faces?|persons?|people|humans?|hands?|bod(?:y|ies)|objects?|subjects")
_FOUND = _any("found|detected|provided|given|present|specified|supplied|recogni[sz]ed|visible|identified|located|set")
_PART = _any(r"""
    values?|parameters?|arguments?|fields?|options?|types?|formats?|inputs?|keys?|property|keyword|scheduler|style|voice
    |size|resolution|url
""")
_READ = _any(r"""
    find|detect|locate|decod\w+|read\w*|open\w*|load\w*|pars\w+|download\w*|fetch\w*|identif\w+|access\w*|retriev\w+
""")
_UNABLE = _any(r"""
    could ?(?:not|n't)|can ?not|can't|unable to|failed to|fail(?:s|ed)? (?:at|while|in)|error while|errors? in
""")

# one pattern a line, comments apart
_ABOUT_THE_MACHINE: Final = r"""
    \b(cuda|cudnn|gpus?|v?ram|oom|memory|devices?|tensors?|kernel|nccl|driver|model weights|state dict)\b
    \b(workers?|upstream|backend|downstream|pods?|replicas?|no (available )?instances?)\b
    \b(time(d|s)? ?outs?|deadline exceeded|took too long)\b
    \b(connect(ion|ing|ed)?|network|socket|dns|proxy|ssl|tls|econn\w+|errno|broken pipe)\b
    \b(internal|unexpected) (server )?(error|exception|failure)\b|\b(bad gateway|server error)\b
    \b(crash\w*|segfault|segmentation fault|traceback|stack trace|killed|terminated|panic\w*|disk)\b
    \b(unavailable|overloaded|out of capacity|no capacity|at capacity|try again later|temporar\w+)\b
    \b(quota|rate limit\w*|too many requests|concurren\w+)\b
"""

_MODERATION: Final = rf"""
    # "NSFW" as the whole message, or with a verdict on either side of it
    ^\W*(\w+ ?: ?)?(nsfw|not safe for work|content moderation|moderation|safety|content filter)\W*$
    \b{_SUBJECT}\b{_GAP}\b({_SEEN}|content|prohibited|forbidden|disallowed|{_STOPPED})\b
    \b{_SUBJECT}\b{_GAP}\b(not|n't) (allowed|permitted|accepted)\b
    \b(contain\w*|depict\w*|includ\w*|detect\w*|resembl\w*|shows?|likeness of|{_STOPPED})\b{_GAP}\b{_SUBJECT}\b
    # "violates our content policy", "content policy violation", "against the community guidelines"
    \b{_BREACH}\b{_GAP}\b{_OF_CONTENT} ([a-z]+ ){{0,3}}{_RULES}\b
    \b{_OF_CONTENT} {_RULES} (violations?|breach\w*)\b
    \bresponsible ai ({_RULES}|{_ITS_MEANS}|practices|standards?)\b
    \b{_WORK} {_BREACH} ((the|their|its|these) )?{_RULES}\b
    # "flagged by the safety system", "moderation blocked", "did not pass the content filter"
    \b{_STOPPED}\b{_GAP}\b{_MODERATOR}( ([a-z]+ )?{_ITS_MEANS}|\W*$|(?= (reasons?|concerns?|issues?)))
    \b{_STOPPED} (by|due to|because of|for|under|in|during|as|from) ([a-z]+ ){{0,2}}{_MODERATOR}
    \b{_MODERATOR} (([a-z]+ )?{_ITS_MEANS} )?({_IS} ){{0,4}}({_STOPPED}|triggered|tripped|activated|violat\w*)\b
    \b(fail(ed|s)|(did|does) ?(not|n't) pass|tripped) ((the|our|a|an|{_WORK}) ){{0,3}}{_MODERATOR} ?{_ITS_MEANS}\b
    \b(for|due to|because of|on) (safety|moderation|content) (reasons?|concerns?|grounds|issues?|restrictions?)\b
    \b(for|due to|because of|on) (safety|moderation|content) polic(y|ies)\b
    \b(safety|moderation) (violations?|block(ed)?|reject(ed|ion))\b|\bfinish ?reason\W+(\w+ )?(safety|recitation)\b
    # "request moderated", "the prompt was flagged", "content blocked"
    \b{_WORK} ({_IS} ){{0,3}}(moderated|censored|flagged)\b
    \b(content|generation) ({_IS} ){{0,2}}(blocked|filtered|rejected|refused|withheld)\b(?! because)
    # "sensitive content", "inappropriate or harmful material", "the image may be unsafe"
    \b{_TRAIT}( (or|and|/)? ?{_TRAIT}){{0,4}} {_STUFF}\b(?! {_TECHNICAL})
    \b{_WORK} ({_IS} ){{1,5}}{_TRAIT}\b(?! {_TECHNICAL})
    ^(?!.*\b{_TECHNICAL}\b).*\binappropriate\b
"""

_ABOUT_INPUTS: Final = rf"""
    # demands
    \b(must|mandatory|required?s?|should (be|have|not|contain)|(needs?|has|have|ought) to|expect(s|ed)|missing)\b
    \b((can|may|could|should|shall|must)( ?not|n't)) (be|have|contain|exceed|include|use)\b
    \bplease (provide|upload|use|supply|check|ensure|choose|select|specify|enter|make sure|reduce|shorten|resize)\b
    # limits
    \bexceed(s|ed|ing)?\b|\b(out of|outside|beyond|not (with)?in)( [a-z]+){{0,3}} (range|bounds?|limits?|interval)\b
    \btoo (long|large|short|small|big|many|few|high|low|wide|tall|narrow|heavy|dark|bright|blurry|complex|close)\b
    \b(max(imum)?|min(imum)?|limit)( [a-z]+){{0,3}} (is|of|are|allowed|reached|for)\b|\b(max|min|limit)\w* ?[:=]
    \b(less|greater|more|fewer|longer|shorter|larger|smaller|higher|lower|bigger|wider) than\b|\bat (least|most)\b
    \b(below|above|under|over)( [a-z]+){{0,3}} (min|max|limit|range|threshold|allowed)\w*
    \bup to \d|\bbetween \S+ and\b|\b(divisible by|multiples? of|divide evenly)\b
    \bdoes ?(not|n't) (match|fit|meet|satisfy|conform|exist|contain)\b
    # kinds
    \b(invalid|inappropriate|unsupported|unrecogni[sz]ed|malformed|incorrect|incompatible|corrupt\w*|disallowed)\b
    \b(not|n't)( [a-z]+){{0,2}} (supported?|allowed|permitted|accept(ed|able)?|valid|recogni[sz]ed|one of)\b
    \bis(n't| not) an? \w+|\b(unknown|unexpected|bad|wrong|undefined|duplicate|illegal) ([a-z]+ )?{_PART}\b
    \b{_INPUT} (format|type|extension)s?\b|\bonly( [a-z0-9,]+){{1,6}} (is|are)( [a-z]+)? (supported|allowed|accepted)\b
    # what is missing, and what cannot be read
    \b(no|zero|without any)(?! reason)( [a-z]+){{1,4}} {_FOUND}\b|\bno (valid|input|usable) \w+
    \b({_BODY}|{_INPUT}) ((was|were|is|are|could|can|be) ?){{0,3}}(not|n't)( be)? {_FOUND}\b
    \b{_UNABLE} {_READ}( [a-z]+){{0,4}} ({_BODY}|{_INPUT})\b|\b(multiple|several|more than one|\d+) {_BODY}\b
    \b(is|was|are|be|were|an|left) (empty|blank|null|none)\b|\bempty (string|list|{_INPUT})\b
"""


def _compiled(table: str) -> re.Pattern[str]:
    lines = [line.strip() for line in table.splitlines()]
    return re.compile("|".join(f"(?:{line})" for line in lines if line and not line.startswith("#")))


_TOPICS: Final[tuple[tuple[Topic, re.Pattern[str]], ...]] = (
    ("machine", _compiled(_ABOUT_THE_MACHINE)),
    ("moderation", _compiled(_MODERATION)),
    ("inputs", _compiled(_ABOUT_INPUTS)),
)


def topic_of(message: str) -> Topic | None:
    """The topic of an error text; None when it is not recognised.

    Args:
        message: as the provider wrote it, in any case and punctuation.
    """
    words = spoken(message)
    return next((topic for topic, pattern in _TOPICS if pattern.search(words)), None)


def spoken(message: str) -> str:
    """A message in the provider's own words: lower case, one space between words, without what it quotes."""
    text = unicodedata.normalize("NFKC", message[:_LONGEST]).translate(_QUOTE_MARKS).casefold()
    text = re.sub(r"[\r\n]+", " ; ", text)
    text = _IN_JSON.sub(lambda match: f" {match.group(3)} ", text)
    own = _QUOTED.sub(" ", text)
    return _JOINTS.sub(" ", own if _SAYS_SOMETHING.search(own) else text).strip()
