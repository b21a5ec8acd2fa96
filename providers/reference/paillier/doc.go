// Package paillier is Paillier's additively homomorphic encryption, made fast enough for gradient boosting: who holds
// only ciphertexts can add what is in them.
//
//	Enc(a) · Enc(b) = Enc(a+b)        Enc(a)^k = Enc(k·a)        all modulo n²
//
// What makes it fast:
//
//   - Generator n+1, so that g^m = 1 + m·n without an exponentiation.
//   - Randomness after Damgård, Jurik and Nielsen (2010): instead of r^n for a fresh r, a fixed generator hs = (-x²)^n of
//     the n-th residues with Jacobi symbol 1 is raised to a random exponent of half the key's length.
//   - hs is raised by table (fixed base, windows of 6 bits): no squarings at all.
//   - The key's owner computes modulo p² and q² and joins the halves by the Chinese remainder theorem, for encryption
//     as well as decryption.
//   - Several small numbers travel in one ciphertext ([Layout]): the gradient, hessian and count of a sample in one, and
//     several bins of a histogram in one.
//
// # What it rests on
//
// Semantic security needs the decisional composite residuosity assumption for n, and that the short exponents look like long
// ones (in the subgroup of order about n/4, the usual assumption of the DJN variant). 2048-bit keys give about 112 bits of security; 1024
// bits are for tests. The primes are congruent 3 modulo 4 with gcd(p-1, q-1) = 2.
//
// A ciphertext hides its content from everyone but the key's owner. The owner knows the randomness of what it encrypted itself,
// so a result must be re-randomised ([PublicKey.Randomise]) before it goes back, or the owner could try which of
// its ciphertexts were multiplied. That hiding, against the owner, rests on discrete logarithms modulo p and q of
// a key that the owner made honestly: both sides are taken as semi-honest.
//
// math/big is not constant in time. Nothing here answers single requests of a partner fast enough to time them: whole
// batches are computed before anything is sent.
package paillier
