// Package psi is the component Intersection: a guest and one or more hosts find the ids that all have, by RSA blind signatures.
//
// The host has an RSA key. A token of an id is the hash of the host's signature of the id's hash: only who got the host's
// signature can make it.
//
//	guest                                        host
//	                                     key  ←  n, e
//	blinded  h(id)·r^e  →
//	                                 signed  ←  (h(id)·r^e)^d = h(id)^d·r
//	divides by r, checks, hashes: own tokens
//	                                 tokens  ←  tokens of all its ids, sorted
//	ids whose token is in both
//	matched  tokens of these ids, sorted  →      (if sync_intersect_ids)
//
// With several hosts the guest does this with each, each with a key of its own, and "matched" names the ids that all have.
//
// What each side learns: the guest its intersection with each host and how many ids the host has; the host how many ids the guest has and, if
// sync_intersect_ids, the intersection. A blinded id is an even random number to the host. The host's tokens of ids that
// the guest lacks can't be tried by guessing ids, for that takes a signature, and the host signs once for each id the guest
// announced. Sorting hides the order of rows. A session's key is made for it and forgotten.
//
// h is a full-domain hash bound to the key: a counter-mode expansion to 128 bits more than the modulus, reduced. The host
// blinds its exponentiations against timing and checks each signature before it leaves, since one faulty CRT signature
// would give the key away. Both sides are taken as semi-honest: a guest that announces guessed ids learns whether the host has them.
package psi
