# with_django.py - your asgi.py: flows under /durable/ in a Django project, for users who have logged in
from django.conf import settings
from django.contrib.auth import aget_user
from django.contrib.sessions.backends.db import SessionStore
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest
from persistasaurus import FlowSystem
from persistasaurus.api.http.access import Access, Scope
from persistasaurus.api.http.app import asgi_app
from persistasaurus.flows.examples import HelloWorldFlow

django = get_asgi_application()


async def who_asks(scope):
    request = ASGIRequest(scope, None)
    request.session = SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    user = await aget_user(request)
    return Access(user.get_username(), frozenset({Scope.READ, Scope.START})) if user.is_staff else None


system = FlowSystem("flows.db", flows=[HelloWorldFlow])
durable = asgi_app(system, access=who_asks, lifespan=True)


async def application(scope, receive, send):
    if scope["type"] == "lifespan" or scope["path"].startswith("/durable/"):
        await durable({**scope, "root_path": "/durable"}, receive, send)
    else:
        await django(scope, receive, send)
