// Package psi implements the component Intersection: private set intersection by RSA blind signatures. A
// guest and one or more hosts find the ids that all of them have.
//
// The host has an RSA key. The token of an id is the hash of the host's signature of the id's hash. Only a
// party that has the host's signature can compute it.
//
//	guest                                        host
//	                                     key  ←  n, e
//	blinded  h(id)·r^e  →
//	                                 signed  ←  (h(id)·r^e)^d = h(id)^d·r
//	divides by r, verifies, hashes: own tokens
//	                                 tokens  ←  tokens of all its ids, sorted
//	ids whose token is in both lists
//	matched  tokens of these ids, sorted  →      (if sync_intersect_ids)
//
// With several hosts the guest runs this exchange with each of them, each with a key of its own. Then
// "matched" names the ids that all parties have.
//
// # What each party learns
//
//   - The guest learns its intersection with each host, and the number of ids of each host.
//   - A host learns the number of ids of the guest and, if sync_intersect_ids is set, the intersection.
//
// To the host, a blinded id is a uniformly random number. The guest can't test guessed ids against the host's
// tokens, because this takes a signature, and the host signs only as many ids as the guest announced. Sorting
// hides the order of rows. The key is generated for one session and then discarded.
//
// # Security
//
// The hash h is a full-domain hash bound to the key: a counter-mode expansion to 128 bits more than the
// modulus, reduced by the modulus. The host blinds its exponentiations against timing attacks. It verifies
// each signature before it sends it, because one faulty CRT signature would reveal the key.
//
// The protocol assumes semi-honest parties: a guest that announces guessed ids learns whether the host has
// them.
package psi
