"""Which emoji a published drawing shows, where its set names drawings by words and not by code points.

A name is looked for among the labels, the names that other sets give to code points, the Unicode character names, and
the published short codes; each is known with hyphens and in one word. What a set calls by a name of its own, or has
misspelt, stands in `OWN_NAMES`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from mmgen.datasets import npm

_TONES = {"light": "1F3FB", "medium-light": "1F3FC", "medium": "1F3FD", "medium-dark": "1F3FE", "dark": "1F3FF"}
_TONE = re.compile(r"-(light|medium-light|medium|medium-dark|dark)-skin-tone$")
_NUMBER = re.compile(r"-\d+$")
_NUMBERED_TONE = re.compile(r"(.+)-([23])")
_OF_NUMBER = {"2": "light", "3": "medium-dark"}  # How Streamline draws people and hands besides in yellow.
_SHORT_CODES = ("emojibase", "cldr", "github", "joypixels", "emojibase-legacy", "iamcal")
_HOURS = "one two three four five six seven eight nine ten eleven twelve".split()


def code_points(hexcode: str) -> str:
    """Code points without variation selectors and leading zeros: equal for equal emoji in every set."""
    return "-".join(part.lstrip("0") for part in hexcode.upper().split("-") if part != "FE0F")


def slug(words: str) -> str:
    """Words as icon sets spell them in names.

    >>> slug("flag: Côte d’Ivoire")
    'flag-cote-divoire'
    """
    plain = unicodedata.normalize("NFKD", re.sub("['\u2019]", "", words)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


class EmojiNames:
    """Name -> code of an emoji.

    Args:
        archive: of emojibase-data.
        labels: code -> what is known of it, with `label`.
        sets: archives in Iconify's form, some of which give code points to their names.
    """

    def __init__(self, archive: Path, labels: dict[str, dict], sets: Iterable[Path]):
        found: dict[str, str] = {}
        self._codes = found
        for code, known in labels.items():
            found.setdefault(slug(known["label"]), code)
        for icons in sets:
            for hexcode, name in json.loads(npm.read(icons, "chars.json")).items():
                if code_points(hexcode) in labels:
                    found.setdefault(name, code_points(hexcode))
        for code in labels:
            if "-" not in code and (name := unicodedata.name(chr(int(code, 16)), "")):
                found.setdefault(slug(name).replace("-", ""), code)
        for kind in _SHORT_CODES:
            for hexcode, some in json.loads(npm.read(archive, f"en/shortcodes/{kind}.json")).items():
                for name in [some] if isinstance(some, str) else some:
                    if code_points(hexcode) in labels:
                        found.setdefault(slug(name), code_points(hexcode))
        for name, code in list(found.items()):
            found.setdefault(name.replace("-", ""), code)
        self._known = frozenset(labels)
        self._flags = {code for code, known in labels.items() if re.search(r"\bflags?\b", known["label"])}

    def __contains__(self, name: str) -> bool:
        return name in self._codes

    def code(self, name: str, key: str = "") -> str | None:
        """The code of the drawing that a set, by its `key`, publishes under a name; or None."""
        own = OWN_NAMES.get(key, {})
        tone = _TONE.search(name)
        if tone and (code := self.code(name[: tone.start()], key)):
            first, *others = code.split("-")
            toned = "-".join([first, _TONES[tone[1]], *others])
            return toned if toned in self._known else self._codes.get(name)
        called = name if name in own or name in self else _NUMBER.sub("", name)
        if called in own:
            return self._codes.get(own[called])
        if numbered := key == "streamline-emojis" and _NUMBERED_TONE.fullmatch(name):
            first, *others = (self._codes.get(numbered[1]) or "-").split("-")
            if (toned := "-".join([first, _TONES[_OF_NUMBER[numbered[2]]], *others])) in self._known:
                return toned
        flags = [f"flag-{name.removeprefix('flag-for-').removeprefix('flag-')}"]
        flags += [flags[0].removeprefix("flag-"), f"{flags[0].removeprefix('flag-')}-flag"]
        if name.startswith("flag-for-"):
            return next((code for flag in flags if (code := self._codes.get(flag)) in self._flags), None)
        in_one_word, plain = name.replace("-", ""), _NUMBER.sub("", name)
        candidates = [f"flag{in_one_word[:-4]}"] if in_one_word.endswith("flag") else []
        candidates += [name, plain, f"flag-{name}", in_one_word, name.replace("cat-face", "cat")]
        return next((self._codes[candidate] for candidate in candidates if candidate in self._codes), None)


def _table(text: str) -> dict[str, str]:
    """Lines of "name label-in-hyphens"; a name alone is a drawing that shows nothing that a label says."""
    return {name: label for name, _, label in (line.strip().partition(" ") for line in text.strip().splitlines())}


OWN_NAMES = {
    "noto-v1": _table(
        """
        asterisk
        keycap
        """
    ),
    "emojione": _table(
        """
        asterisk
        a-button a-button-blood-type
        ab-button ab-button-blood-type
        b-button b-button-blood-type
        o-button o-button-blood-type
        blond-haired-person person-blond-hair
        bride-with-veil woman-with-veil
        exclamation-mark red-exclamation-mark
        flag-for-macau-sar-china flag-macao-sar-china
        flag-for-turkey flag-turkiye
        heavy-large-circle hollow-red-circle
        laptop-computer laptop
        man-in-suit-levitating person-in-suit-levitating
        man-with-chinese-cap person-with-skullcap
        up-text-button up-button
        white-heavy-check-mark check-mark-button
        """
    ),
    "streamline-emojis": _table(
        """
        amusing-face face-with-hand-over-mouth
        champagne-glass
        crazy-face zany-face
        exclamation-mark red-exclamation-mark
        game-dice game-die
        gesturing-ok woman-gesturing-ok
        man-in-suit-levitating person-in-suit-levitating
        red-wine-glass wine-glass
        school-backpack backpack
        turkey flag-turkiye
        white-wine-glass wine-glass
        """
    ),
    "fxemoji": _table(
        """
        2hearts two-hearts
        acorn chestnut
        americasglobe globe-showing-americas
        anguish anguished-face
        anticlockwiseupwardsanddownwardsarrows counterclockwise-arrows-button
        aok ok-hand
        arrowrightwardsdownwards right-arrow-curving-down
        arrowrightwardsupwards right-arrow-curving-up
        asiaaustraliaglobe globe-showing-asia-australia
        backwithleftwardsarrow back-arrow
        ballottboxwithballott ballot-box-with-ballot
        banknotedollar dollar-banknote
        banknoteeuro euro-banknote
        banknotepound pound-banknote
        banknoteyen yen-banknote
        bellcancellation bell-with-slash
        blackdownpointingdoublearrow fast-down-button
        blackdroplet droplet
        blackleftpointingarrow reverse-button
        blackleftpointingdoublearrow fast-reverse-button
        blackrightpointingarrow play-button
        blackrightpointingdoublearrow fast-forward-button
        blackskullcrossbones skull-and-crossbones
        blackuppointingdoublearrow fast-up-button
        blackwaving black-flag
        blonde person-blond-hair
        bolt high-voltage
        bookmarktab bookmark-tabs
        bouquetofflowers bouquet
        bow ribbon
        bowing person-bowing
        bride woman-with-veil
        bullhorn loudspeaker
        bunny rabbit-face
        bunny-ears women-with-bunny-ears
        bunnyside rabbit
        cat cat-face
        catside cat
        cellphone mobile-phone
        chartdownwardstrend chart-decreasing
        chartupwardstrend chart-increasing
        chartupwardstrendyen chart-increasing-with-yen
        chilipepper hot-pepper
        chineseflag flag-china
        cjkunifiedideograph-a japanese-reserved-button
        cjkunifiedideograph-b japanese-open-for-business-button
        cjkunifiedideograph-c japanese-prohibited-button
        cjkunifiedideograph-d japanese-vacancy-button
        cjkunifiedideograph-e japanese-passing-grade-button
        cjkunifiedideograph-f japanese-no-vacancy-button
        cjkunifiedideograph-g japanese-not-free-of-charge-button
        cjkunifiedideograph-h japanese-monthly-amount-button
        cjkunifiedideograph-i japanese-free-of-charge-button
        cjkunifiedideograph-j japanese-application-button
        cjkunifiedideograph-k japanese-discount-button
        clockwisedownupcircledarrows clockwise-vertical-arrows
        clockwiserightwardsleftwardscirclearrows repeat-button
        clockwiserightwardsleftwardscirclearrowsone repeat-single-button
        closedmailboxlowered closed-mailbox-with-lowered-flag
        closedmailboxraised closed-mailbox-with-raised-flag
        confetti confetti-ball
        construct construction-worker
        construction building-construction
        constructionsign construction
        contact bust-in-silhouette
        contact2 busts-in-silhouette
        couple couple-with-heart
        crying crying-face
        devilhorns smiling-face-with-horns
        diamondshapewithdotinside diamond-with-a-dot
        dissapointedrelief sad-but-relieved-face
        dog dog-face
        dogside dog
        doubleexclaimationmark double-exclamation-mark
        down backhand-index-pointing-down
        dragonhead dragon-face
        dragonside dragon
        eightspokedasterix eight-spoked-asterisk
        endwithleftwardsarrow end-arrow
        envelopedownarrowabove envelope-with-arrow
        europeafricaglobe globe-showing-europe-africa
        evergreen evergreen-tree
        exclaimationquestionmark exclamation-question-mark
        fallingleaf fallen-leaf
        faxicon fax-machine
        fishcakeswirl fish-cake-with-swirl
        fistedhand oncoming-fist
        flexbicep flexed-biceps
        folder file-folder
        forkknife fork-and-knife-with-plate
        frontfacingchick front-facing-baby-chick
        frown person-frowning
        frownmouth frowning-face-with-open-mouth
        girlgirl women-holding-hands
        gma old-woman
        gpa old-man
        greatbritainflag flag-united-kingdom
        grin grinning-face
        grineyes grinning-face-with-smiling-eyes
        grinsquint grinning-squinting-face
        grinsweat grinning-face-with-sweat
        grintears face-with-tears-of-joy
        grinwide grinning-face-with-big-eyes
        guapimao person-with-skullcap
        guyguy men-holding-hands
        hampster hamster
        handheldvideocamera video-camera
        hands open-hands
        handup person-raising-hand
        headmassage person-getting-massage
        heartarrow heart-with-arrow
        heartblue
        heartgreen green-heart
        heartpurple purple-heart
        heartyellow yellow-heart
        heavylatincross latin-cross
        heavymultiplicationsymbol multiply
        heels high-heeled-shoe
        high5 raising-hands
        highspeedtrainbulletnose bullet-train
        index index-pointing-up
        italianflag flag-italy
        japaneseangrymask goblin
        keyboard
        kiss kissing-face
        kissclosedeyes kissing-face-with-closed-eyes
        kisseyes kissing-face-with-smiling-eyes
        kissing face-blowing-a-kiss
        koreaflag flag-south-korea
        leaffluttering leaf-fluttering-in-wind
        left backhand-index-pointing-left
        leftwritinghand writing-hand
        leopardside leopard
        lockandkey locked-with-key
        loudlycrying loudly-crying-face
        lowerleftpen pen
        lowerleftpencil pencil
        makeupbag clutch-bag
        manltepiececlock mantelpiece-clock
        mansshirt t-shirt
        mensrunner running-shoe
        mensshoe mans-shoe
        meridianglobe globe-with-meridians
        monkeyhear hear-no-evil-monkey
        monkeysee see-no-evil-monkey
        monkeyspeak speak-no-evil-monkey
        mouse mouse-face
        mouseside mouse
        negativesquaredlatincaptiala a-button-blood-type
        negativesquaredlatincaptialb b-button-blood-type
        negativesquaredlatincaptialo o-button-blood-type
        nogesture person-gesturing-no
        nooneunder18symbol no-one-under-eighteen
        notebookdecorativecover notebook-with-decorative-cover
        okgesture person-gesturing-ok
        oldpersonalcomputer laptop
        onarrowleftright on-arrow
        onebuttonmouse computer-mouse
        openfolder open-file-folder
        openmailboxlowered open-mailbox-with-lowered-flag
        openmailboxraised open-mailbox-with-raised-flag
        opticaldiscicon optical-disk
        outbox outbox-tray
        page page-facing-up
        pages page-with-curl
        perservere persevering-face
        personalcomputer
        phonerightarrowleft mobile-phone-with-arrow
        pig pig-face
        pigside pig
        pigsnout pig-nose
        pinkwallet purse
        potablewatersystem potable-water
        pout person-pouting
        pouting enraged-face
        present wrapped-gift
        printericon printer
        raisedhandpartfingers vulcan-salute
        raisedhandsfingerssplayed hand-with-fingers-splayed
        reminder reminder-ribbon
        reversehandmiddlefinger middle-finger
        right backhand-index-pointing-right
        russianflag flag-russia
        saggitarius sagittarius
        sandals womans-sandal
        screamfear face-screaming-in-fear
        silhouetteohjapan map-of-japan
        sixpointedstarwithdot dotted-six-pointed-star
        sleuthspy detective
        smallfrown slightly-frowning-face
        smallsmile slightly-smiling-face
        smileeyes smiling-face-with-smiling-eyes
        smiletongue face-savoring-food
        snowmountains snow-capped-mountain
        soonwithrightarrow soon-arrow
        spanishflag flag-spain
        speaker3soundwaves speaker-high-volume
        speakercancellation muted-speaker
        speakeronesoundwave speaker-medium-volume
        speechbubble speech-balloon
        spurtingwhale spouting-whale
        squaredup up-button
        stormcloud cloud-with-lightning
        studiomic studio-microphone
        sunglasses smiling-face-with-sunglasses
        sunraincloud sun-behind-rain-cloud
        sunrays sun
        sweatsplash sweat-droplets
        tennisball tennis
        thoughtbaloon thought-balloon
        tiger tiger-face
        tigerside tiger
        tongueoutwink winking-face-with-tongue
        tongueoutwink2 squinting-face-with-tongue
        topwithupwardsarrow top-arrow
        toykotower tokyo-tower
        tramcar
        turban person-wearing-turban
        up backhand-index-pointing-up
        videocasette videocassette
        waitress person-tipping-hand
        waningbibbousmoon waning-gibbous-moon
        wave water-wave
        waving waving-hand
        winking winking-face
        wiredkeyboard keyboard
        womansshirt womans-clothes
        """
    )
    | {f"clock{n}oclock": f"{hour}-oclock" for n, hour in enumerate(_HOURS, 1)}
    | {f"clock{n}thirty": f"{hour}-thirty" for n, hour in enumerate(_HOURS, 1)},
}
"""Set -> name -> label in hyphens, for names that nothing else explains; "" for one that would be explained wrongly."""
