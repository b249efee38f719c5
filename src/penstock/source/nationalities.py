# ruff: noqa: RUF001 - Turkish has a dotless i
"""Nationalities of the random user API 1.4 and their user data. Data only.

In a pattern, `#` is a digit, `%` a digit except zero, `@` a capital letter. Other characters are literal.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Nationality:
    """User data of one country. `locale` is Faker's. Lists supply what Faker lacks."""

    country: str
    locale: str
    phone: str
    cell: str
    id_name: str = ""
    id_value: str = ""  # empty: the API's id.value is null
    post_code: str | tuple[int, int] = (10000, 99999)  # a pattern makes text, a range makes numbers
    region: str = "administrative_unit"  # Faker's name for a state
    regions: tuple[str, ...] = ()
    cities: tuple[str, ...] = ()
    streets: tuple[str, ...] = ()


_NORWAY = ("Agder", "Akershus", "Finnmark", "Innlandet", "Møre og Romsdal", "Nordland", "Oslo", "Rogaland", "Vestland")
_NEW_ZEALAND = ("Auckland", "Bay of Plenty", "Canterbury", "Hawke's Bay", "Otago", "Tasman", "Waikato", "Wellington")
_SERBIA = ("Beograd", "Bor", "Braničevo", "Jablanica", "Mačva", "Nišava", "Raška", "Srem", "Šumadija", "Zlatibor")
_SERBIA_CITIES = (
    "Čačak",
    "Kragujevac",
    "Leskovac",
    "Niš",
    "Novi Sad",
    "Pančevo",
    "Prokuplje",
    "Šabac",
    "Užice",
    "Vršac",
)
_TURKEY = ("Adana", "Ankara", "Bursa", "Diyarbakır", "Eskişehir", "İstanbul", "İzmir", "Kütahya", "Muğla", "Şanlıurfa")
_TURKEY_CITIES = ("Alanya", "Bodrum", "Çorlu", "Gebze", "İnegöl", "Kuşadası", "Nevşehir", "Ödemiş", "Tarsus", "Ünye")
_TURKEY_STREETS = (
    "Atatürk Sk",
    "Bağdat Cd",
    "Çiçek Sk",
    "Fatih Cd",
    "Gül Sk",
    "İstiklal Cd",
    "Maçka Cd",
    "Şehitler Cd",
    "Vatan Cd",
)

NATIONALITIES = {
    "AU": Nationality("Australia", "en_AU", "0#-####-####", "04##-###-###", "TFN", "#########", (200, 9999), "state"),
    "BR": Nationality("Brazil", "pt_BR", "(##) ####-####", "(##) ####-####", "CPF", "###.###.###-##"),
    "CA": Nationality("Canada", "en_CA", "%## %##-####", "%## %##-####", "SIN", "#########", "@#@ #@#", "province"),
    "CH": Nationality(
        "Switzerland", "fr_CH", "07# ### ## ##", "07# ### ## ##", "AVS", "756.####.####.##", (1000, 9999), "canton_name"
    ),
    "DE": Nationality("Germany", "de_DE", "0###-#######", "017#-#######", "SVNR", "## ###### @ ###", region="state"),
    "DK": Nationality("Denmark", "da_DK", "%#######", "%#######", "CPR", "######-####", region="state"),
    "ES": Nationality("Spain", "es_ES", "9##-###-###", "6##-###-###", "DNI", "########-@", region="region"),
    "FI": Nationality("Finland", "fi_FI", "0#-###-###", "04#-###-##-##", "HETU", "######-###@", region="state"),
    "FR": Nationality(
        "France", "fr_FR", "0%-##-##-##-##", "06-##-##-##-##", "INSEE", "############# ##", region="region"
    ),
    "GB": Nationality(
        "United Kingdom", "en_GB", "01### ######", "07### ######", "NINO", "@@ ## ## ## @", "@@# #@@", "county"
    ),
    "IE": Nationality("Ireland", "en_IE", "0#1-###-####", "081-###-####", "PPS", "#######@", region="county"),
    "IN": Nationality("India", "en_IN", "9#########", "8#########", "UIDAI", "############", region="state"),
    "IR": Nationality("Iran", "fa_IR", "0##-########", "09##-###-####", region="state"),
    "MX": Nationality("Mexico", "es_MX", "(6##) ### ####", "(6##) ### ####", "NSS", "## ## ## #### #", region="state"),
    "NL": Nationality(
        "Netherlands", "nl_NL", "(0##) #######", "(06) ########", "BSN", "########", "%### @@", "province"
    ),
    "NO": Nationality("Norway", "no_NO", "2#######", "4#######", "FN", "###########", "####", regions=_NORWAY),
    "NZ": Nationality("New Zealand", "en_NZ", "(###)-###-####", "(###)-###-####", regions=_NEW_ZEALAND),
    "RS": Nationality(
        "Serbia", "hr_HR", "0##-####-###", "06#-####-###", "SID", "#########", regions=_SERBIA, cities=_SERBIA_CITIES
    ),
    "TR": Nationality(
        "Turkey",
        "tr_TR",
        "(###)-###-####",
        "(###)-###-####",
        regions=_TURKEY,
        cities=_TURKEY_CITIES,
        streets=_TURKEY_STREETS,
    ),
    "UA": Nationality("Ukraine", "uk_UA", "(0##) ###-####", "(09#) ###-####", region="region"),
    "US": Nationality(
        "United States", "en_US", "(%##) ###-####", "(%##) ###-####", "SSN", "###-##-####", region="state"
    ),
}
