#!/usr/bin/env bash
# Makes the signatures again, with OpenSSL 3.0 or later.
set -euo pipefail
cd "$(dirname "$0")"
sign() {
  local key=$1 hash=$2 name=$3
  shift 3
  printf 'POST\n/v1/interconn/schedule/job/start?a=1\nJG01\nJG02\n0b9f1d56-7a51-4a0f-b1a2-6f0f6a4a9b1e\n1700000000000\n%s' \
    "$(printf '{"job_id":"J"}' | openssl dgst "-$hash" -r | cut -d' ' -f1)" >"canonical.$name.txt"
  if [ "$name" = transport ]; then
    printf '\n%s' "$(printf 'x-ptp-session-id:session_J\nx-ptp-topic:a b' | openssl dgst "-$hash" -r | cut -d' ' -f1)" \
      >>"canonical.$name.txt"
  fi
  if [ "$name" = permits ]; then
    printf '\n%s' "$(printf 'x-mprac-token-set:JG02:DATASET:d1/1/PERMIT' | openssl dgst "-$hash" -r | cut -d' ' -f1)" \
      >>"canonical.$name.txt"
  fi
  openssl pkeyutl -sign -rawin -digest "$hash" -inkey "$key.key" -in "canonical.$name.txt" "$@" |
    openssl base64 -A >"signature.$name.txt"
}
sign rsa sha256 rsa
sign rsa sha256 transport
sign rsa sha256 permits
sign ecdsa sha256 ecdsa
sign sm2 sm3 sm2 -pkeyopt distid:1234567812345678
