// Package paillier implements Paillier's additively homomorphic encryption, fast enough for gradient
// boosting. A party that holds only ciphertexts can add their plaintexts.
//
//	Enc(a) · Enc(b) = Enc(a+b)        Enc(a)^k = Enc(k·a)        all modulo n²
//
// Optimizations:
//
//   - The generator is n+1, so g^m = 1 + m·n needs no exponentiation.
//   - Randomness follows Damgård, Jurik and Nielsen (2010). In place of r^n for a new r, a fixed generator hs
//     = (-x²)^n of the n-th residues with Jacobi symbol 1 is raised to a random exponent of half the key's
//     length.
//   - hs is raised by a precomputed table (fixed base, windows of 6 bits), without any squarings.
//   - The key's owner computes modulo p² and q² and joins the halves by the Chinese remainder theorem, both
//     for encryption and decryption.
//   - One ciphertext carries several small numbers ([Layout]): the gradient, hessian and count of a sample,
//     and several bins of a histogram.
//
// # Security
//
// Semantic security rests on two assumptions: the decisional composite residuosity assumption for n, and that
// short random exponents are indistinguishable from long ones (in the subgroup of order about n/4, the usual
// assumption of the DJN variant). 2048-bit keys give about 112 bits of security; 1024-bit keys are for tests.
// The primes are congruent to 3 modulo 4, with gcd(p-1, q-1) = 2.
//
// A ciphertext hides its plaintext from everyone except the key's owner. The owner knows the randomness of
// the ciphertexts that it encrypted itself. A result must therefore be re-randomised ([PublicKey.Randomise])
// before it is returned, or the owner could test which of its ciphertexts were multiplied. Hiding from the
// owner rests on discrete logarithms modulo p and q of a key that the owner generated honestly: all parties
// are assumed to be semi-honest.
//
// math/big is not constant in time. Nothing here answers single requests of a partner fast enough to time
// them: a batch is complete before anything is sent.
package paillier
