"""A pool's OpenID configuration tells the addresses of its sign-in pages; moto's tells the signing keys alone.

https://docs.aws.amazon.com/cognito/latest/developerguide/federation-endpoints.html
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from moto.cognitoidp import urls
from moto.cognitoidp.responses import CognitoIdpOpenIdConfigurationResponse

PAGES = {
    "authorization_endpoint": "oauth2/authorize",
    "token_endpoint": "oauth2/token",
    "revocation_endpoint": "oauth2/revoke",
    "end_session_endpoint": "logout",
}


def patch() -> None:
    served = CognitoIdpOpenIdConfigurationResponse.serve_openid_configuration

    def serve(request: Any, url: str, headers: Any) -> Any:
        from aistratus.local.shim.cognito import find_pool

        status, kind, body = served(request, url, headers)
        pool = find_pool(request.path.strip("/").split("/")[0])
        if pool is None or pool.domain is None:
            return status, kind, body
        at = urlsplit(url)
        base = f"{at.scheme}://{at.netloc}/_hosted/{pool.domain.domain}"
        pages = {name: f"{base}/{path}" for name, path in PAGES.items()}
        return status, kind, json.dumps({**json.loads(body), **pages}).encode()

    for path, handler in urls.url_paths.items():
        if handler is served:
            urls.url_paths[path] = serve
