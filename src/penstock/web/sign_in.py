"""The sign-in form: plain HTML, since NiceGUI's websocket needs a signed-in session."""

from urllib.parse import quote, urlsplit

from penstock.web.markup import html

_FORM = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · penstock</title>
<link rel="stylesheet" href="/assets/penstock.css">
</head>
<body class="sign-in">
<main>
<h1>penstock</h1>
<form method="post" action="/sign-in?to={to}">
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" autofocus required
 aria-describedby="told">
<button type="submit">Sign in</button>
<p id="told" role="alert">{error}</p>
<p>The password is the value of <code>PENSTOCK_CONTROL_PASSWORD</code>.</p>
</form>
</main>
</body>
</html>
"""


def render_form(to: str, error: str = "") -> str:
    """Render the form that leads to the page `to`; `error` is the error of the previous attempt."""
    return html(_FORM, to=quote(to), error=error)


def safe_path(to: str) -> str:
    """Return `to` if it is a path on this site, else `/`. Prevents open redirects."""
    parts = urlsplit(to)
    is_ours = to.startswith("/") and not to.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return to if is_ours and to.isprintable() else "/"
