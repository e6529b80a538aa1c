"""Who may open what of the panel: the least role for each route, decided by people and written by hand. A route that is
not here has no rule, and a right that is changed by mistake is not what stands here (`test_rights.py`)."""

OF_EVERY_STORE = "admin of every store"
LEAST = {
    "viewer": """
        GET /dashboard
        GET /dashboard/components
        GET /deliveries
        GET /deliveries/fresh
        GET /deliveries/{messageId}
        GET /events
        GET /events/{eventId}
        GET /expiring
        GET /expiring/{expiryKind}
        GET /expiring/{expiryKind}/scans
        GET /expiring/{expiryKind}/preview
        GET /recover
        GET /recover/backfill
        GET /recover/{bulkActionId}
        GET /recover/{bulkActionId}/figures
        GET /webhooks
        GET /webhooks/{webhookSubscriptionId}
        GET /event-types
        GET /event-types/{eventName}
        GET /migrate
        GET /migrate/{webhookSubscriptionId}
        GET /settings
        GET /password
        POST /password
    """,
    "editor": """
        GET /deliveries/redeliver
        POST /deliveries/redeliver
        GET /deliveries/recover
        POST /deliveries/{messageId}/act
        POST /expiring
        POST /expiring/{expiryKind}/scan
        POST /expiring/{expiryKind}/backfill
        POST /expiring/{expiryKind}/paused
        POST /recover/count
        POST /recover/begin
        POST /recover/{bulkActionId}/cancel
        GET /webhooks/new
        POST /webhooks/new
        GET /webhooks/{webhookSubscriptionId}/edit
        POST /webhooks/{webhookSubscriptionId}/edit
        POST /webhooks/check
        POST /webhooks/draft-test
        POST /webhooks/chosen
        POST /webhooks/{webhookSubscriptionId}/test
        POST /webhooks/{webhookSubscriptionId}/status
        POST /webhooks/{webhookSubscriptionId}/rotate
        POST /webhooks/{webhookSubscriptionId}/delete
        POST /migrate/{webhookSubscriptionId}/copy
        GET /migrate/{webhookSubscriptionId}/switch
        POST /migrate/{webhookSubscriptionId}/switch
    """,
    "admin": """
        POST /webhooks/{webhookSubscriptionId}/key
        POST /settings
        POST /settings/operator-key
        GET /audit
    """,
    OF_EVERY_STORE: """
        GET /keys
        GET /keys/new
        POST /keys/new
        POST /keys/{apiKeyId}/revoke
        GET /administrators
        GET /administrators/new
        POST /administrators/new
        POST /administrators/{administratorId}/active
        GET /audit/installation
    """,
}
"""Routes below `/{storeCode}`, by the least role that may."""
_ROLES = ("viewer", "editor", "admin", OF_EVERY_STORE)

RULES = {line.strip(): _ROLES.index(least) for least, lines in LEAST.items() for line in lines.strip().splitlines()}


def may(role: str, route: str) -> bool:
    """Whether somebody of the role may use the route, such as `GET /webhooks`; raises KeyError where no rule says."""
    return _ROLES.index(role) >= RULES[route]
