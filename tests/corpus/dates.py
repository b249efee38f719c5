"""Invalid dates, and valid ones that only look invalid."""

from tests.corpus.case import Case, Stored, broken

_FORMAT = {
    "year 0": "0000-01-01T00:00:00Z",
    "a year of five digits": "10000-01-01T00:00:00Z",
    "a negative year": "-0044-03-15T00:00:00Z",
    "30 February": "2000-02-30T00:00:00Z",
    "29 February of no leap year": "1900-02-29T00:00:00Z",
    "month 13": "2000-13-01T00:00:00Z",
    "day 0": "2000-01-00T00:00:00Z",
    "24:00": "2000-01-01T24:00:00Z",
    "a leap second": "2016-12-31T23:59:60Z",
    "no zone": "2000-01-01T00:00:00",
    "no seconds": "2000-01-01T00:00Z",
    "no time": "2000-01-01",
    "an offset of a day": "2000-01-01T00:00:00+24:00",
    "an offset of hours alone": "2000-01-01T00:00:00+05",
    "a week": "2000-W01-1T00:00:00Z",
    "no hyphens": "20000101T000000Z",
    "Arabic digits": "٢٠٠٠-01-01T00:00:00Z",
    "a space at the end": "2000-01-01T00:00:00Z ",
    "a newline at the end": "2000-01-01T00:00:00Z\n",
    "a NUL at the end": "2000-01-01T00:00:00Z\0",
    "a comma for the fraction": "2000-01-01T00:00:00,5Z",
    "beyond the last microsecond, when rounded": "9999-12-31T23:59:59.9999999Z",
    "words": "yesterday",
    "seconds since 1970 as text": "946684800",
    "empty": "",
}
_DATE = {
    "the last moment": "9999-12-31T23:59:59.999999Z",
    "the future": "2999-01-01T00:00:00Z",
    "before year 1 by UTC": "0001-01-01T00:00:00+05:00",
    "after year 9999 by UTC": "9999-12-31T23:59:59-01:00",
}
_FINE = {
    "the first moment": "0001-01-01T00:00:00Z",
    "before year 1 by its own clock": "0001-01-01T05:00:00+05:00",
    "1582, in the days that were left out": "1582-10-10T00:00:00Z",
    "before 1970, not on a whole millisecond": "1969-12-31T23:59:59.999999Z",
    "microseconds": "2000-01-01T00:00:00.123456Z",
    "nanoseconds": "2000-01-01T00:00:00.123456789Z",
    "an offset": "2000-01-01T05:45:00+05:45",
    "the largest offset": "2000-01-01T00:00:00-23:59",
    "an offset without a colon": "2000-01-01T00:00:00+0500",
    "unknown local offset": "2000-01-01T00:00:00-00:00",
    "a space for the T": "2000-01-01 00:00:00Z",
    "small letters": "2000-01-01t00:00:00z",
    "29 February": "2000-02-29T00:00:00Z",
}

CASES = [
    *(
        Case(f"dob: {name}", lambda sender, t=text: sender.json(dob=t), broken("dob:format"))
        for name, text in _FORMAT.items()
    ),
    *(
        Case(f"dob: {name}", lambda sender, t=text: sender.json(dob=t), broken("dob:date"))
        for name, text in _DATE.items()
    ),
    *(
        Case(f"dob: {name}", lambda sender, t=text: sender.json(dob=t), Stored({"dob": text}))
        for name, text in _FINE.items()
    ),
    Case("dob: seconds since 1970", lambda sender: sender.json(dob=946684800), broken("dob:type")),
    Case(
        "both dates in the future",
        lambda sender: sender.json(dob="2999-01-01T00:00:00Z", registered_date="2999-01-01T00:00:00Z"),
        broken("dob:date", "registered_date:date", message="dob: is in the future"),
    ),
]
