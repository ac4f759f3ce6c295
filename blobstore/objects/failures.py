"""Says why an object storage failed, without quoting requests or credentials."""

import os
import re

# The errors of the library quote requests, answers and addresses, which may hold credentials. Only
# what these patterns find is passed on.
FACTS = (
    re.compile(r"status code: (\d{3} [A-Za-z ]{1,40}\b)"),
    re.compile(r"<Code>([A-Za-z]{1,60})</Code>"),
    re.compile(r'\bcode: "([A-Za-z]{1,60})"'),
)
SYSTEM_ERROR = re.compile(r"\b(?:os error |Errno |Os \{\s*code: )(\d{1,3})\b")
NO_CREDENTIALS = "no credentials in the environment, and none from the machine"
LINK = "a link has replaced a chunk or its folder"
HINTS = {
    LINK: LINK,
    "kind: Connect": "no connection",
    "kind: Timeout": "no answer in time",
    "kind: Interrupted": "the connection broke",
    "dns error": "the host is unknown",
    "invalid peer certificate": "the certificate is not trusted",
    "BadScheme": "plain http is not allowed (AWS_ALLOW_HTTP=true allows it)",
    "redirect without LOCATION": "the bucket is in another region",
    "latest/api/token": NO_CREDENTIALS,
    "computeMetadata": NO_CREDENTIALS,
    "metadata/identity": NO_CREDENTIALS,
    "InvalidUri": "the endpoint is not a URL",
}


def reason_of(error: BaseException) -> str:
    """Say what went wrong, without anything that may hold a credential."""
    said = str(error)
    found = [match[1] for fact in FACTS if (match := fact.search(said))]
    if match := SYSTEM_ERROR.search(said):
        found.append(os.strerror(int(match[1])))
    found += [hint for sign, hint in HINTS.items() if sign in said]
    return ", ".join(found) or type(error).__name__
