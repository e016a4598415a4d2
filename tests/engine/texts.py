"""Texts of several kinds: the samples on which the estimate is measured (docs/backends.md)."""

from typing import Final

import orjson

_ENGLISH: Final = """\
When the committee met on Thursday, nobody had expected the chairman to resign, let alone to do so
with a speech of forty minutes about the history of municipal water supply. She listened carefully,
wrote down three questions, and decided to ask none of them. "We shall see," said the treasurer, who
had been waiting for this moment since 1998. The children were playing in the garden while their
grandmother prepared dinner; outside, a light rain had begun to fall on the roofs of the old town.
"""
_GERMAN: Final = """\
Der Ausschuss trat am Donnerstag zusammen, und niemand hatte erwartet, dass der Vorsitzende
zurücktreten würde, geschweige denn mit einer vierzigminütigen Rede über die Geschichte der
städtischen Wasserversorgung. Sie hörte aufmerksam zu, schrieb drei Fragen auf und beschloss, keine
davon zu stellen. Die Geschwindigkeitsbegrenzung auf der Bundesstraße wurde vorübergehend
aufgehoben, weil die Straßenverkehrsbehörde ihre Beschilderung überprüfen musste.
"""
_RUSSIAN: Final = """\
Комитет собрался в четверг, и никто не ожидал, что председатель подаст в отставку, тем более с
сорокаминутной речью об истории городского водоснабжения. Она внимательно слушала, записала три
вопроса и решила не задавать ни одного. Дети играли в саду, пока бабушка готовила ужин; снаружи на
крыши старого города начал падать лёгкий дождь.
"""
_CHINESE: Final = """\
委员会于星期四召开会议，没有人料到主席会辞职，更没有想到他会发表四十分钟的演讲，谈论城市供水的历史。
她认真地听着，写下了三个问题，最后决定一个也不问。孩子们在花园里玩耍，祖母正在准备晚饭；外面，
细雨开始落在老城的屋顶上。人工智能技术正在迅速发展，对社会经济的各个领域产生了深远的影响。
"""
_JAPANESE: Final = """\
委員会は木曜日に開かれたが、議長が辞任するとは誰も予想していなかった。まして、市の水道の歴史について
四十分も演説するとは思わなかった。彼女は注意深く耳を傾け、三つの質問を書き留めたが、結局どれも尋ねない
ことにした。子供たちは庭で遊び、祖母は夕食の支度をしていた。外では小雨が古い町の屋根に降り始めていた。
"""
_CODE: Final = '''\
class CircuitBreaker:
    """Counts failures in a row of one backend."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float] = monotonic) -> None:
        self._settings = settings
        self._failures = 0
        self._open_until: float | None = None

    def admit(self) -> None:
        if self._open_until is None:
            return
        wait = self._open_until - self._clock()
        if wait > 0 or self._probing:
            raise Overloaded(retry_after=max(1.0, wait))
        self._probing = True

    def accepted(self) -> None:
        for index, (name, value) in enumerate(sorted(self._seen.items(), key=lambda x: x[1])):
            print(f"{index:>4} {name}: {value / 1024:.1f} KiB")
'''
_ROWS: Final = [
    {
        "id": f"item_{index:04d}",
        "created_at": 1_700_000_000 + index * 977,
        "status": "completed" if index % 3 else "in_progress",
        "tags": ["alpha", "beta"],
        "price": {"amount": index * 12.5, "currency": "EUR"},
        "customer": None,
        "is_gift": index % 2 == 0,
    }
    for index in range(12)
]

TEXTS: Final = {
    "English": _ENGLISH,
    "German": _GERMAN,
    "Russian": _RUSSIAN,
    "Chinese": _CHINESE,
    "Japanese": _JAPANESE,
    "Python": _CODE,
    "JSON": orjson.dumps(_ROWS).decode(),
    "JSON, indented": orjson.dumps(_ROWS, option=orjson.OPT_INDENT_2).decode(),
    "hexadecimal": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" * 4,
}
