"""Which icons show a thing that the words of a caption can say, by the names that their sets give them."""

from __future__ import annotations

from collections.abc import Iterable

from mmgen.datasets.emoji_names import EmojiNames, slug

_NUMBERED = frozenset({"one", "two", "three", "four", "five", "six"})
_NO_SUBJECT = frozenset(
    "add agreement all and application arrow arrows auto back bad beauty black bless block bottom by bye cancel "
    "change check checked chinese circle close clue come communication control correct creative credit cross "
    "cycle dark data direction dislike dismiss down dribble drive easy eight empty end entertainment exchange "
    "fail fine first flip flirt focus for forward from full future gas good handle health help hiding high hold "
    "idea identification in incoming intersection journey landing left level like list log loop low mark market "
    "middle mind minus mode monitor more move natural navigation new next nine no not notice of off on once open "
    "order out outgoing page paid plus point points power press previous privacy protect protection remove right "
    "rule save search security send sent service seven shade shake sign signal sliding sort speed split square "
    "staff start steam style symbol tailoring ten text the theme thirty to top trace trademark transform trend "
    "turn type universal up view with write zero zoom".split()
)
"""Words of icons that show an action, a state, a sign or an abstraction."""

_MISNAMED = frozenset(
    "anchor-round bolt branch broken-link bullet-map business cell chip death-star department experiment fork "
    "frame horizontally lamp light link-break map-road nut orange-station palm refresh reload repair respect "
    "rock-gesture round round-trip spider-man sport table tent-banner tray tree-list triangle trunk unhappy waves "
    "weight".split()
)
"""Icons that show something else than their names say, or trademarks."""


def icon_words(icons: Iterable[str], labels: dict[str, dict], names: EmojiNames) -> list[tuple[str, str]]:
    """The icons whose words all occur in the emoji's labels or tags, each as (words, name), in order.

    So "swimming-ring" is taken and "align-text-both-one" is not. Of several sizes of one icon the largest is taken;
    what an emoji is called already is left out, as are arrows, signs and whatever shows no thing.

    Args:
        labels: code -> what is known of an emoji, with `label` and `tags`.
    """
    vocabulary = {word for known in labels.values() for word in slug(known["label"]).split("-")}
    vocabulary |= {word for known in labels.values() for tag in known["tags"] for word in slug(tag).split("-")}
    chosen: dict[str, str] = {}
    for name in sorted(icons, key=lambda name: (len(name), name)):
        words = [word for word in name.split("-") if not word.isdigit() and word not in _NUMBERED]
        short, plain = min(map(len, words), default=0) < 3, "-".join(words)
        says_something = not short and set(words) <= vocabulary and not set(words) & _NO_SUBJECT
        if says_something and plain not in names and plain not in _MISNAMED:
            chosen[" ".join(words)] = name
    return sorted(chosen.items())
