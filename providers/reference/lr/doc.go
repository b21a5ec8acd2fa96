// Package lr implements the component HeteroLR: logistic regression over a table whose columns are split
// between several parties, after Hardy et al. (2017). The guest has the label and some features. Each host
// has other features of the same rows. The arbiter has no data and holds the Paillier key.
//
// The loss of a row with label y, 1 or -1, and score z is its second-order Taylor expansion at 0, as in the
// paper:
//
//	log 2 - yz/2 + z²/8      with the gradient    (z/4 - y/2)·x
//
// So residuals are linear in the data of each party. The sigmoid turns scores into probabilities.
//
//	arbiter → all                  key      public key
//	guest and hosts ↔ each other   hello    parameters, and a check that the rows match
//	for every iteration, for every batch:
//	  guest and hosts ↔ each other shares   Enc(own part of each row's 4·residual): z of own features;
//	                                        the guest subtracts 2y
//	  each: Enc(gradient of own features) from the others' shares; own parts are added later in plaintext
//	  each → arbiter               masked   gradients, packed, plus a random mask
//	  arbiter → each               plain    the masked sum, from which the party subtracts its mask
//	  each: one step of the optimizer for its own weights
//	  hosts → guest                status   Enc(own terms of the loss, squared length of own step)
//	  guest → arbiter → guest      masked, plain: the loss
//	  guest → hosts                next     continue or stop
//	hosts → guest                  scores   Enc(own share of each row's score);
//	                                        the guest has the sum decrypted as above
//	all → arbiter                  masked   end
//
// # Lossless
//
// The result equals plain gradient descent on the joined table with the same loss, optimizer, penalty and
// batches. Sums under encryption are exact, and each optimizer treats weights independently. The only
// difference is rounding: features and scores enter the encrypted sums with 32 fractional bits. Weights,
// scores and losses agree within 1e-6. The tests check this bound with features of about unit size.
//
// The weights differ from those of regression with the exact logistic loss, since the expansion is another
// loss. The order of scores hardly differs, and so do AUC and KS. Standardise the features: the expansion is
// accurate for small scores only.
//
// # What each party learns
//
// The arbiter sees only numbers under a mask that is uniformly random over all plaintexts. So it learns
// nothing about data, weights or loss. From the counts it learns roughly how many features each party has,
// the number of iterations and the number of scored rows. It must not collude with any other party, since it
// can decrypt what the others exchange.
//
// A host learns the number of rows, the parameters, when the training stops, and in each step the gradient of
// its own weights. The gradient of a batch is linear in sums over its rows, X_hᵀX_g·w_g and X_hᵀy. So a host
// can learn the correlation of its features with the label and, over many steps, with as many directions of
// the guest's features as there are. A batch always has the same rows. It must have more rows than any party
// has features: otherwise the gradient would reveal each row's label, and the training is refused. Use
// batches much larger than that.
//
// The guest learns the same about its own features. It also learns the loss, with weight_diff the length of
// the weights' step, and the scores of the rows. It can subtract its own share from the scores. With one host
// it thus learns the host's share of each row's score under the final weights; with several hosts it learns
// only their sum. Prediction in this scheme reveals the same.
//
// No party learns another party's weights or feature values. Hosts learn nothing about each other except the
// number of rows. All parties are assumed to be semi-honest: they follow the protocol.
package lr
