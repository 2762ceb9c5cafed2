"""Words without the commonest endings."""

_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "went": "go",
    "gone": "go",
    "goes": "go",
    "bought": "buy",
    "sold": "sell",
    "sent": "send",
    "paid": "pay",
    "made": "make",
    "making": "make",
    "lost": "lose",
    "won": "win",
    "began": "begin",
    "begun": "begin",
    "wrote": "write",
    "written": "write",
    "writing": "write",
    "took": "take",
    "taken": "take",
    "taking": "take",
    "gave": "give",
    "given": "give",
    "found": "find",
    "built": "build",
    "caught": "catch",
    "taught": "teach",
    "thought": "think",
    "left": "left",
    "came": "come",
    "coming": "come",
    "ran": "run",
    "running": "run",
    "hidden": "hide",
    "hid": "hide",
    "chose": "choose",
    "chosen": "choose",
    "spent": "spend",
    "grew": "grow",
    "grown": "grow",
    "fell": "fall",
    "fallen": "fall",
    "broke": "break",
    "broken": "break",
    "using": "use",
    "used": "use",
    "lying": "lie",
    "dying": "die",
    "died": "die",
    "news": "news",
    "always": "always",
    "alias": "alias",
    "bus": "bus",
    "gas": "gas",
    "plus": "plus",
    "minus": "minus",
    "during": "during",
    "morning": "morning",
    "evening": "evening",
    "nothing": "nothing",
    "something": "something",
    "anything": "anything",
    "everything": "everything",
    "string": "string",
    "king": "king",
    "ring": "ring",
    "spring": "spring",
    "bring": "bring",
    "thing": "thing",
    "things": "thing",
    "red": "red",
    "bed": "bed",
    "need": "need",
    "speed": "speed",
    "feed": "feed",
    "seed": "seed",
    "series": "series",
    "species": "species",
    "yes": "yes",
    "his": "his",
    "is": "is",
    "was": "was",
    "has": "has",
    "does": "does",
    "us": "us",
    "this": "this",
}


def stem(word: str) -> str:
    """*word* without the commonest endings, so that ``files`` meets ``file`` and ``parsing`` meets ``parse``."""
    known = _IRREGULAR.get(word)
    if known is not None:
        return known
    if len(word) <= 3 or not word.isascii():
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith("ing") and len(word) > 5:
        return _bare(word[:-3])
    if word.endswith("ied") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ed") and len(word) > 4:
        return _bare(word[:-2])
    if word.endswith("e") and len(word) > 3:
        return word[:-1]
    return word


def _bare(word: str) -> str:
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        return word[:-1]
    if word.endswith("e") and len(word) > 4:
        return word[:-1]
    return word
