// Package certs holds what a party needs for mutual TLS with its partners: certificates and authorities that
// are read again when their files change, fingerprints that two people compare by telephone, the rule that
// binds a certificate to a node id, and an authority for development and tests.
//
// # Who a certificate is
//
// A certificate belongs to node N if an authority of N's route signed it and it names N, by the URI
// hutong://N or by the DNS name N, or if its public key is pinned in N's route. [Peer.Verify] decides it, in
// both directions. The host name in a URL plays no part: a certificate proves a node, not an address.
package certs
