"""JSON Web Tokens for people's programs, as the PRD has them. simplejwt makes and checks them; here
they are described."""

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework_simplejwt import serializers, views

from accounts.api.schema import refused, request, response

# Shortened: only their form is shown.
ACCESS, REFRESH = "eyJhbGciOiJIUzI1NiIs...access", "eyJhbGciOiJIUzI1NiIs...refresh"


@extend_schema_view(
    post=extend_schema(
        operation_id="create_token",
        summary="Get a token for a username and a password",
        description="The access token holds for 15 minutes, in the header `Authorization: Bearer "
        "TOKEN`; the refresh token gets new ones for a day.",
        tags=["tokens"],
        request=serializers.TokenObtainPairSerializer,
        responses={
            200: serializers.TokenObtainPairSerializer,
            400: refused(
                "Something is missing.", ("INVALID_REQUEST", "password: This field is required.")
            ),
            401: refused(
                "Nobody, or nobody active.",
                (
                    "AUTHENTICATION_FAILED",
                    "No active user has this username and password; check both.",
                ),
            ),
        },
        examples=[
            request({"username": "alice", "password": "••••••••"}),
            response({"access": ACCESS, "refresh": REFRESH}),
        ],
    )
)
class TokenView(views.TokenObtainPairView):
    pass


@extend_schema_view(
    post=extend_schema(
        operation_id="refresh_token",
        summary="Get a new access token",
        tags=["tokens"],
        request=serializers.TokenRefreshSerializer,
        responses={
            200: serializers.TokenRefreshSerializer,
            400: refused(
                "Something is missing.", ("INVALID_REQUEST", "refresh: This field is required.")
            ),
            401: refused(
                "Its time is over, or it is none of ours.",
                (
                    "AUTHENTICATION_FAILED",
                    "Token is invalid. Get a new token from /api/token.",
                ),
            ),
        },
        examples=[request({"refresh": REFRESH}), response({"access": ACCESS})],
    )
)
class TokenRefreshView(views.TokenRefreshView):
    pass
