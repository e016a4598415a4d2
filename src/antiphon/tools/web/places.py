"""Where the user is, as search providers want to be told: each has other names for a country.

Rules
1. A country that is not in the table, or that a provider does not know, is not sent: providers
   answer 4xx to what they do not know.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Country(NamedTuple):
    """English name (Tavily), main language (SearXNG, with the country), region (DuckDuckGo)."""

    name: str
    language: str
    region: str | None


#: ISO 3166-1 alpha-2 → the country.
COUNTRIES: Final[Mapping[str, Country]] = {
    "AR": Country("argentina", "es", "ar-es"),
    "AT": Country("austria", "de", "at-de"),
    "AU": Country("australia", "en", "au-en"),
    "BE": Country("belgium", "nl", "be-nl"),
    "BG": Country("bulgaria", "bg", "bg-bg"),
    "BR": Country("brazil", "pt", "br-pt"),
    "CA": Country("canada", "en", "ca-en"),
    "CH": Country("switzerland", "de", "ch-de"),
    "CL": Country("chile", "es", "cl-es"),
    "CN": Country("china", "zh", "cn-zh"),
    "CO": Country("colombia", "es", "co-es"),
    "CZ": Country("czech republic", "cs", "cz-cs"),
    "DE": Country("germany", "de", "de-de"),
    "DK": Country("denmark", "da", "dk-da"),
    "EE": Country("estonia", "et", "ee-et"),
    "ES": Country("spain", "es", "es-es"),
    "FI": Country("finland", "fi", "fi-fi"),
    "FR": Country("france", "fr", "fr-fr"),
    "GB": Country("united kingdom", "en", "uk-en"),
    "GR": Country("greece", "el", "gr-el"),
    "HK": Country("hong kong", "zh", "hk-tzh"),
    "HR": Country("croatia", "hr", "hr-hr"),
    "HU": Country("hungary", "hu", "hu-hu"),
    "ID": Country("indonesia", "id", "id-en"),
    "IE": Country("ireland", "en", "ie-en"),
    "IL": Country("israel", "he", "il-en"),
    "IN": Country("india", "en", "in-en"),
    "IS": Country("iceland", "is", "is-is"),
    "IT": Country("italy", "it", "it-it"),
    "JP": Country("japan", "ja", "jp-jp"),
    "KR": Country("south korea", "ko", "kr-kr"),
    "LT": Country("lithuania", "lt", "lt-lt"),
    "LU": Country("luxembourg", "fr", None),
    "LV": Country("latvia", "lv", "lv-lv"),
    "MX": Country("mexico", "es", "mx-es"),
    "MY": Country("malaysia", "ms", "my-en"),
    "NL": Country("netherlands", "nl", "nl-nl"),
    "NO": Country("norway", "nb", "no-no"),
    "NZ": Country("new zealand", "en", "nz-en"),
    "PE": Country("peru", "es", "pe-es"),
    "PH": Country("philippines", "en", "ph-en"),
    "PK": Country("pakistan", "ur", "pk-en"),
    "PL": Country("poland", "pl", "pl-pl"),
    "PT": Country("portugal", "pt", "pt-pt"),
    "RO": Country("romania", "ro", "ro-ro"),
    "RS": Country("serbia", "sr", None),
    "RU": Country("russia", "ru", "ru-ru"),
    "SA": Country("saudi arabia", "ar", "xa-ar"),
    "SE": Country("sweden", "sv", "se-sv"),
    "SG": Country("singapore", "en", "sg-en"),
    "SI": Country("slovenia", "sl", "sl-sl"),
    "SK": Country("slovakia", "sk", "sk-sk"),
    "TH": Country("thailand", "th", "th-en"),
    "TR": Country("turkey", "tr", "tr-tr"),
    "TW": Country("taiwan", "zh", "tw-tzh"),
    "UA": Country("ukraine", "uk", "ua-uk"),
    "US": Country("united states", "en", "us-en"),
    "ZA": Country("south africa", "en", "za-en"),
}

_BRAVE: Final = (
    "AR AT AU BE BR CA CH CL CN DE DK ES FI FR GB HK ID IN IT JP KR MX MY NL NO NZ PH PL PT RU SA "
    "SE TR TW US ZA"
)
#: What Brave takes as `country`; it answers 422 to others.
BRAVE_COUNTRIES: Final = frozenset(_BRAVE.split())
