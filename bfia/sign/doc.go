// Package sign signs and verifies requests between parties with the header x-auth-sign.
//
// The BFIA specification requires x-auth-sign and leaves open what is signed and how. This package implements
// the profile hutong-1, which docs/developers/bfia.md publishes. A signature covers the method, the path and
// query, the two node ids, the nonce, the timestamp, the body, the transport's x-ptp headers and the permits
// of a job. Against replay, the receiver must also remember nonces for [NonceMemory].
package sign
