"""The longest request, and every duration that follows from it.

`tests/test_timeouts.py` compares the files for compose and Kubernetes with these.
"""

LONGEST_REQUEST_SECONDS = 30
"""Maximum timeout of a request. A receiver that works longer should store the event, respond, and work afterwards."""

SHUTDOWN_GRACE_SECONDS = LONGEST_REQUEST_SECONDS + 5
"""Time for the attempts of a stopping worker: the longest request, and the recording of its outcome."""

WORKER_STOP_SECONDS = 2 * SHUTDOWN_GRACE_SECONDS + 10
"""Time after which a stopping worker may be killed: its tasks take a grace and the attempts begun by them another, the
relay and the last spans some seconds."""

ATTEMPT_SECONDS = 3 * LONGEST_REQUEST_SECONDS
"""Maximum duration of an activity that makes one attempt. By default a request begins when two others have ended, as at
most 100 retries of a subscription wait in Temporal and 50 are on the wire at once. With fewer on the wire, an attempt
may queue for longer. It goes on then, and the activity that Temporal begins again joins it."""

DRAIN_ROUND_SECONDS = 4 * LONGEST_REQUEST_SECONDS
"""Maximum duration of a drain round: a probe, 5 s of beginning deliveries, then those behind the rate limiter."""

LONGEST_LEASE_SECONDS = 20 * LONGEST_REQUEST_SECONDS
"""Maximum age of an attempt's lease: longer than an attempt can queue and run in a live worker, so an older one is
orphaned. An attempt queues for half of it at most."""

TEST_BEGINS_SECONDS = 15
"""Maximum age at which the test of a draft is sent. A person waits for it."""

TEST_SECONDS = TEST_BEGINS_SECONDS + LONGEST_REQUEST_SECONDS
"""Maximum duration of a test until its outcome."""
