// Package lr is the component HeteroLR: logistic regression over a table whose columns lie at several parties, after Hardy
// et al. (2017). The guest has the label and some features, each host other features of the same rows, and an arbiter,
// who has no data, holds the Paillier key.
//
// The loss of a row with label y, 1 or -1, and score z is its second-order expansion at 0, as in the paper:
//
//	log 2 - yz/2 + z²/8      with the gradient    (z/4 - y/2)·x
//
// so that residuals are linear in what each party knows. Scores become probabilities by the sigmoid.
//
//	arbiter → all                  key      public key
//	guest and hosts ↔ each other   hello    parameters, and that rows lie alike
//	for every iteration, for every batch:
//	  guest and hosts ↔ each other shares   Enc(own part of each row's 4·residual): z of own features; the guest's less 2y
//	  each: Enc(gradient of own features) from the others' shares; own parts are added in the clear afterwards
//	  each → arbiter               masked   gradients, packed, plus a random number
//	  arbiter → each               plain    the sum, of which the party takes its random number
//	  each: one step of the optimizer for its own weights
//	  hosts → guest                status   Enc(own terms of the loss, squared length of own step)
//	  guest → arbiter → guest      masked, plain: the loss
//	  guest → hosts                next     on, or stop
//	hosts → guest                  scores   Enc(own share of each row's score); the guest has the sum decrypted as above
//	all → arbiter                  masked   end
//
// # It loses nothing
//
// It does what plain gradient descent on the joined table does with the same loss, optimizer, penalty and batches: sums under
// encryption are exact, and every optimizer looks at one weight at a time. The only difference is rounding: features and scores
// enter the encrypted sums with 32 bits behind the point. Weights, scores and losses agree within 1e-6
// (the tests hold them to it, with features of about unit size).
// Against regression with the exact logistic loss the weights differ, since the expansion is another loss; the order of scores, and
// so AUC and KS, hardly do. Features should be standardised: the expansion is good for small scores.
//
// # What each party learns
//
// The arbiter: the public key's owner sees only numbers under a mask that is drawn evenly from all plaintexts, so nothing about data,
// weights or loss; from counts it learns about how many features each party has, how many iterations there were and how
// many rows the guest had scored. It must not work together with any other party, since it could decrypt what they exchange.
//
// A host: how many rows there are, the parameters, when the training stops, and in each step the gradient of its own weights. The gradient of a batch
// is linear in sums over its rows, X_hᵀX_g·w_g and X_hᵀy: so a host can learn its features' correlation with the label and, over many
// steps, with up to as many directions of the guest's features as there are. Batches have always the same rows, and always more of
// them than a party has features, or the gradient would give each row away; that is refused. Batches much larger than
// that are better.
//
// The guest: the same about its own features; the loss; with weight_diff the length of the weights' step; and the scores of the rows,
// from which it can take its own share: with one host it learns the host's share of each row's score under the final
// weights, with several hosts only their sum. So the component that predicts does in this scheme anyhow.
//
// Nobody learns another's weights or feature values, and hosts nothing about each other but the number of rows. All are taken as
// semi-honest: they follow the protocol.
package lr
