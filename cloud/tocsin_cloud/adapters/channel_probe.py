"""Whether a way to people is open, tried without a word to anybody: a mail server takes us, a web server answers."""

import warnings
from typing import Final
from urllib.parse import urlsplit

import apprise
import requests
from urllib3.exceptions import ProtocolError

with warnings.catch_warnings():
    # On Python 3.11 and 3.12 Apprise's mail looks for a module that later ones no longer have.
    warnings.filterwarnings("ignore", message="'imghdr' is deprecated", category=DeprecationWarning)
    from apprise.plugins.custom_form import NotifyForm
    from apprise.plugins.custom_json import NotifyJSON
    from apprise.plugins.custom_xml import NotifyXML
    from apprise.plugins.email import NotifyEmail
    from apprise.plugins.email.smtp import AppriseSMTPController

__all__ = ["NotifyEmail", "NotifyForm", "NotifyJSON", "NotifyXML", "knock", "mail_server"]

ANSWER_S: Final = 10.0


def mail_server(service: NotifyEmail) -> AppriseSMTPController:
    """The mail server of an address: entered, it is connected, by TLS if the address says so, and has signed us in."""
    return AppriseSMTPController(
        str(service.smtp_host),
        int(service.port or 0),
        str(service.secure_mode),
        service.user,
        service.password,
        service.verify_certificate,
        service.socket_connect_timeout,
    )


def knock(service: apprise.NotifyBase) -> None:
    """Try the way to a service as far as nobody notices.

    A mail server has to take our name and password. Of a web service it is enough that its server answers whatever it
    likes: what its tokens and paths are worth only a message would show. What is neither, and whatever is reached at an
    address that Apprise does not tell, is not tried.

    Raises:
        OSError: there is no connection, no TLS, or no answer.
        smtplib.SMTPException: the mail server refuses us.
    """
    if isinstance(service, NotifyEmail):
        with mail_server(service):
            return
    address = _web_server(service)
    if address is None:
        return
    try:
        requests.head(address, timeout=ANSWER_S, verify=service.verify_certificate, allow_redirects=False)
    except requests.ConnectionError as error:
        # Who takes the connection and then ends it is there: not every small box knows what was asked.
        if not isinstance(next(iter(error.args), None), ProtocolError):
            raise


def _web_server(service: apprise.NotifyBase) -> str | None:
    if isinstance(service, NotifyForm | NotifyJSON | NotifyXML):
        port = f":{service.port}" if service.port else ""
        return f"{'https' if service.secure else 'http'}://{service.host}{port}/"
    if "host" in service.template_tokens:
        # On a server of one's own: each plugin makes its address in another way.
        return None
    # Twilio's has one for messages and one for calls, on the same server.
    told = next((getattr(service, name) for name in ("notify_url", "notify_sms_url") if hasattr(service, name)), "")
    found = urlsplit(str(told))
    known = found.scheme in ("http", "https") and found.netloc and "{" not in found.netloc
    return f"{found.scheme}://{found.netloc}/" if known else None
