"""Who may do what over REST."""

from rest_framework.permissions import IsAdminUser


class IsAdmin(IsAdminUser):
    """The PRD's admin role."""

    message = (
        "This needs the admin role: call with a key made by create_api_key --admin, or as a "
        "staff user."
    )
