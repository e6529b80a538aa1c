#!/bin/sh
# Makes the namespace TEMPORAL_NAMESPACE of the Temporal at TEMPORAL_ADDRESS, and the search attributes workflows are
# found by. Safe to run again: what is there is left as it is.
set -eu
namespace=${TEMPORAL_NAMESPACE:-default}
retention=${RETENTION:-72h} # of histories of what is over; what was delivered stands in our own log

temporal operator namespace describe --namespace "$namespace" >/dev/null 2>&1 ||
    temporal operator namespace create --namespace "$namespace" --retention "$retention"

# A new namespace is known to every part of the server within some ten seconds.
tries=60
until known=$(temporal operator search-attribute list --namespace "$namespace"); do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || { echo "The search attributes of $namespace cannot be listed." >&2; exit 1; }
    sleep 1
done
for attribute in StoreCode EventName EventIds; do
    if ! printf '%s\n' "$known" | grep -qw "$attribute"; then
        temporal operator search-attribute create --namespace "$namespace" --name "$attribute" --type KeywordList
    fi
done
echo "Namespace $namespace has its search attributes."
