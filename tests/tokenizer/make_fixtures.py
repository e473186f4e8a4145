#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/tokenizer/fixtures: two vocabularies trained on a text of its own, and what Hugging Face makes of hard texts.

  folder/vocab.json, folder/merges.txt   a vocabulary in two files
  tokenizer.json                         the same in one
  small/tokenizer.json                   one of fewer merges, to be damaged by tests, with added tokens that overlap
  texts.json                             texts, and raw bytes in hexadecimal, with their tokens; tokens with their bytes
  classes.json                           which characters are letters, numbers, spaces, or unassigned, as ranges

Needs tokenizers:  pip install tokenizers
Usage: python3 make_fixtures.py [FOLDER]
"""
import json
import pathlib
import random
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END = "<|endoftext|>"

SENTENCES = """
The pipeline is filled from the front and drained at the back, and what lies between is the time that's lost.
Don't count the stages; they've counted you. I'm sure we'll see that it's the slowest one that sets the pace, and
you're the one who'd know. She said: "Nothing moves before its neighbour has moved." It didn't, and it won't!
In 2024 there were 1,024 ranks, 65536 micro-batches and 3.14159 reasons to wait (0x7f, 1e-5, 50%).
for (int i = 0; i < ranks; ++i) { if (rank == i) return micro_batches[i] + 1; }  // nothing else to do
def forward(self, tokens):\n    return self.head(self.blocks(self.embedding(tokens)))\n
파이프라인은 앞에서부터 채워지고 뒤에서부터 비워진다. 우리는 그 사이의 시간을 거품이라고 부른다.
나는 오늘 아침에 기차를 기다렸다. 기차는 늦었고, 나는 책을 읽었다. 그래서 기다림은 길지 않았다.
Zwölf große Öfen wärmen über Nacht. L'été dernier, nous avons vu la forêt près du château. ¿Dónde está el niño?
Быстрый поезд идёт на север, а медленный стоит. Το τρένο φεύγει νωρίς το πρωί.
列車は朝早く出発します。火车很早就出发了。我们在车站等了很久。😀😃 😂😂😂 👍🏽 ❤️ 🚂🚃🚃🚃
""".strip().split("\n")

TEXTS = [
    "", " ", "  ", "   ", "a", " a", "  a", "a ", "a  ", "a   b", "\n", "\n\n", "a\n\n\nb", " \n \n ", "\t\tx\t", "a\r\nb\r\n",
    "word  \n  word", "    return x\n        return y", "a" + " " * 300 + "b", " " * 301, "\n" * 133 + "x", " \t\n\r\f\v" * 9,
    "Hello world", "Hello, world!", "hello world hello world", "The pipeline is filled from the front.",
    "I'm you're he's we've they'll I'd don't", "I'M YOU'RE HE'S WE'VE THEY'LL I'D DON'T", "'s't're've'm'll'd", " 's 't 're",
    "'''", "''s", "'sx", "x'", "'S 'T 'Re", "it\u2019s don\u2019t", "o'clock rock'n'roll 'tis", "'s's", "'rev'em", "'", " '",
    "0", "00", "1234567890", "3.14159", "1,024", "x1y2z3", "1st 2nd", "0x7f 1e-5", "\u0661\u0662\u0663 \u096a\u096b", "\u2167 \u216b",
    "\u00bd\u00b2\u00b3\u2460", "\u3007\u3021", "a\u00b2b", "\U0001d7ce\U0001d7cf", "10\u202f000", "\uff11\uff12",
    "파이프라인은 앞에서부터 채워진다.", "한국어", "한 국 어", "안녕하세요, 세계! 1234", "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "ㅋㅋㅋㅋ ㅠㅠ", "대한민국의  기차가\n\n왔다", "가각갂힣", "\u3164\u115f\u1160", "나는 train을 탔다'", "\uac00" * 60,
    "😀", " 😀", "😀😀", "😀 😀", "👍🏽", "👨\u200d👩\u200d👧\u200d👦", "🇰🇷🇩🇪", "❤️", "❤\ufe0f\u200d🔥", "1\ufe0f\u20e3", "🏴\U000e0067\U000e0062\U000e007f",
    "a😀b", "😀's", "\U0001f9d1\U0001f3fb\u200d\U0001f4bb ok",
    "e\u0301", "\u00e9", "n\u0303o", "a\u0308\u0323\u0302", "\u0301", " \u0301", "Zalgo h\u0337\u0321e\u0338", "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643", "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", "\u1019\u103c\u1014\u103a\u1019\u102c", "火车很早就出发了", "列車は朝早く", "\uff76\uff9e",
    "\u0130stanbul \u0131\u015f\u0131k", "stra\u00dfe STRASSE \u1e9e", "\ufb01n \ufb03", "\u01c4\u01c5\u01c6", "Быстрый поезд", "Το τρένο",
    "a\u00a0b", "\u00a0", " \u00a0 x", "a\u3000b", "a\u2003\u2003b", "a\u2028b\u2029c", "a\u0085b", "a\u1680b", "a\u180eb", " \u180e ", "a\u200bb", "\ufeffa", "a\u202fb\u205fc",
    "a\u2060b", "\u00ad", "a\u00adb", "\u061c\u200e\u200f", "".join(map(chr, range(32))), "".join(map(chr, range(32, 127))), "\x7f",
    "".join(map(chr, range(128, 160))), "".join(map(chr, range(160, 256))), "a\0b", "\0", "\0\0 \0", "a\x1cb\x1dc\x1ed\x1fe", "\x1b[31mred\x1b[0m",
    "\x1c\x1c ", " \x1f", "\ud7ff\ue000", "\ufffd", "\ufffe\uffff", "\U0010ffff", "\U000f0000", "\ufdd0", "\u0378", "\U0001fffe", "\u07ff\u0800", "\x7f\x80",
    END, END + END, " " + END, END + " ", "a" + END + "b", "a " + END + " b", "  " + END + "  b", END + "'s", "it" + END + "'s",
    "<|endoftext|", "|endoftext|>", "<|endoftext|>>", "<<|endoftext|>", "<|endof<|endoftext|>text|>", "<|ENDOFTEXT|>", "< |endoftext|>",
    "파" + END + "이", "\n" + END + "\n\n" + END, "<", "<|", "\u0120the", "\u010a", "\u0120", "\u0100\u0143\u0144",
    "!!!", "...", " ...", "?!?!", "a-b_c", "e.g. i.e.", "x=y+z", "()[]{}", "\"quoted\"", "https://example.org/a?b=c&d=%20", "$5 \u20ac6 \u20a97",
    "a" * 600, "ab" * 300, "the" * 150, "!" * 300, "1" * 300, "pipelinepipelinepipeline", "antidisestablishmentarianism",
]

BYTES = [
    b"\xff", b"\xff\xfe", b"a\xffb", b"\x80", b"\xbf\xbf\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x80\x80\x80",
    b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\xe2\x82A", b"\xe2", b"\xf0\x9f\x98", b"\xf0\x9f\x98 \xf0\x9f\x98\x80", b"\xe2\x82\xe2\x82\xac", b"\xf0\x9f",
    b"abc \xff def", b"abc  \xff  def", b" \xff", b"\xff ", b"it\xff's", b"\xff's", b"\xed\x95\x9c\xed\x95", b"\x95\x9c\xed\x95\x9c", b"\xc3\x28", b"\xa0\xa1", b"\xe2\x28\xa1",
    b"\xf8\xa1\xa1\xa1\xa1", b"\xfc\xa1\xa1\xa1\xa1\xa1", b"\0\xff\0", b"\xff<|endoftext|>\xfe", b"<|endoftext|>\xff", b"<|endoftext\xff|>", b"\xe2<|endoftext|>\x82\xac",
    b"12\xff34", b"\xff" * 100, b"\xed\x95" * 40, bytes(range(256)), bytes(range(255, -1, -1)), bytes(range(128, 256)) * 2,
]

BYTES += [b" " + raw for raw in BYTES[:20]]  # a space that would join a word of letters

ALPHABET = {}  # GPT-2's letters, by byte
for byte in range(256):
    prints = 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte
    ALPHABET[byte] = chr(byte if prints else 256 + sum(b not in range(33, 127) and not (b > 160 and b != 173) for b in range(byte)))
BYTE_OF = {letter: byte for byte, letter in ALPHABET.items()}


def corpus(draw):
    """Sentences, words of them in new orders, and invented words with frequencies as in a language."""
    words = " ".join(SENTENCES).split()
    syllables = ["".join(p) for p in zip("bdfgklmnprst" * 4, "aeiou" * 9)] + ["ing", "er", "tion", "un", "re", "ly"]
    invented = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(400)]
    weights = [1 / (i + 1) for i in range(len(invented))]
    for _ in range(400):
        yield draw.choice(SENTENCES)
        yield " ".join(draw.choices(words, k=12))
        yield " ".join(draw.choices(invented, weights, k=16)).capitalize() + draw.choice([".", "!", "?", "...", "\n\n"])


def train(size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(
        list(corpus(random.Random(1))),
        trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=list(ALPHABET.values())),
    )
    tokenizer.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return tokenizer


def encode_bytes(tokenizer, raw):
    """Stretches that are UTF-8, each by itself, are the tokenizer's; other bytes, between them, are a word a run."""
    ids, at = [], 0

    def length(at):  # of the character there, 0 where there is none
        return next((n for n in range(1, 5) if at + n <= len(raw) and is_utf8(raw[at : at + n])), 0)

    while at < len(raw):
        end = at
        while end < len(raw) and (n := length(end)):
            end += n
        ids += tokenizer.encode(raw[at:end].decode(), add_special_tokens=False).ids
        at = end
        while end < len(raw) and not length(end):
            end += 1
        if end > at:
            ids += [token.id for token in tokenizer.model.tokenize("".join(ALPHABET[b] for b in raw[at:end]))]
        at = end
    return ids


def is_utf8(raw):
    try:
        raw.decode()
        return True
    except UnicodeDecodeError:
        return False


def bytes_of(tokenizer, ids):
    """What tokens stand for, checked against the text (not the bytes) that the tokenizer gives."""
    raw = b"".join(bytes(BYTE_OF[letter] for letter in tokenizer.id_to_token(id)) for id in ids)
    assert raw.decode(errors="replace") == tokenizer.decode(ids, skip_special_tokens=False)
    return raw


def random_texts(draw):
    pools = [
        "abcdefghij   '''std", "  \n\t\u00a0\u3000\u2003", "0123456789\u0663\u00bd", "가나다라마바사아자차카타파하한국", "😀👍🏽\u200d❤️🇰🇷",
        "\u0301\u0308\u200b\ufeff\u180e\u0085\x00\x1c", ".,;:!?-_()[]<|>", "éßøñçЖдшαβγ火车列車あア",
    ]
    for _ in range(160):
        mix = draw.sample(pools, draw.randint(1, 4))
        yield "".join(draw.choice(draw.choice(mix)) for _ in range(draw.randint(1, 24)))
    for _ in range(30):
        yield "".join(chr(c) for c in (draw.randrange(0x110000) for _ in range(12)) if not 0xD800 <= c < 0xE000 and assigned(c))
    for _ in range(40):
        yield draw.choice(SENTENCES)[draw.randrange(20) : draw.randrange(30, 80)] + draw.choice(["", END, " ", "\n"])


def random_bytes(draw):
    for _ in range(100):
        raw = bytearray("".join(draw.choices([" the", " pipeline", "파이", "😀", "'s", "12", "\n\n", " ", "é", END], k=8)).encode())
        for _ in range(draw.randint(1, 6)):
            at = draw.randrange(len(raw))
            if draw.random() < 0.5:
                raw[at] = draw.randrange(256)
            else:
                del raw[at]
        yield bytes(raw)


UNASSIGNED = pre_tokenizers.Split(Regex(r"\p{Cn}"), behavior="removed")


def assigned(c):  # as far as the tokenizer's regular expressions know
    return bool(UNASSIGNED.pre_tokenize_str(chr(c)))


def classes(tokenizer):
    """(first character, class) wherever the class changes."""
    joins = tokenizer.pre_tokenizer.pre_tokenize_str
    ranges = []
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
            kind = "surrogate"
        elif not assigned(c):
            kind = "unassigned"
        else:
            kind = next((k for k, other in (("letter", "a"), ("number", "1"), ("other", "!")) if len(joins(other + chr(c))) == 1), "space")
        if not ranges or ranges[-1][1] != kind[0]:
            ranges.append([c, kind[0]])
    return ranges


def write(path, value):
    parts = []
    for key, rows in value.items():
        parts.append(f'"{key}":[\n' + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "fixtures"
    (folder / "folder").mkdir(parents=True, exist_ok=True)
    (folder / "small").mkdir(exist_ok=True)
    draw = random.Random(2)

    tokenizer = train(1000)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    tokenizer.model.save(str(folder / "folder"))
    vocabulary = json.loads((folder / "folder/vocab.json").read_text())
    (folder / "folder/vocab.json").write_text(json.dumps({**vocabulary, END: len(vocabulary)}))  # as GPT-2's has it

    small = train(340)
    small.add_tokens([AddedToken("<x>", normalized=True), AddedToken("<x>y", normalized=True), AddedToken("x>y<", normalized=False)])
    small.save(str(folder / "small/tokenizer.json"), pretty=True)

    texts = TEXTS + list(random_texts(draw))
    raws = BYTES + list(random_bytes(draw))
    overlaps = ["<x>", "<x>y", "<x>y<", "<x>y<x>", "<<x>>y", "a<x>b<x>y c", "<x>y<|endoftext|>", "x>y<x>y<x>y", "<|endoftext|><x>", " <x> y"]
    tokens = [[draw.randrange(tokenizer.get_vocab_size()) for _ in range(draw.randint(1, 12))] for _ in range(60)]
    write(
        folder / "texts.json",
        {
            "texts": [[text, tokenizer.encode(text).ids] for text in texts],
            "bytes": [[raw.hex(), encode_bytes(tokenizer, raw)] for raw in raws],
            "tokens": [[ids, bytes_of(tokenizer, ids).hex()] for ids in tokens],
            "overlaps": [[text, small.encode(text).ids] for text in overlaps],
        },
    )
    rows = classes(tokenizer)
    write(folder / "classes.json", {"ranges": [sum(rows[i : i + 8], []) for i in range(0, len(rows), 8)]})


if __name__ == "__main__":
    main()
