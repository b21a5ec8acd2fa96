// Package boost implements the component HeteroSecureBoost: gradient boosted trees (SecureBoost, Cheng et
// al., 2019) over a table whose columns are split between parties. The guest has the label and some features.
// Each host has other features of the same rows.
//
//	guest                                          host
//	setup: public key, options      →
//	                                      features  ←  number of bins of each feature
//	for every tree:
//	  tree: Enc(gradient, hessian, 1) of each row →
//	  for every level:
//	    histograms: rows of some nodes →
//	                                   sums of each feature's bins, encrypted and packed  ←
//	    finds the best split of each node over all parties' features
//	    split: node's rows, feature, bin →           stores feature and threshold under a number
//	                                   which rows go left, and that number  ←
//	end                             →
//
// # Lossless
//
// Gradients are fixed-point numbers, so sums are exact, whichever party computes them. The trees are the same
// as if one party trained on the joined table. A [source] provides histograms and splits; [grow] searches the
// sources in order and does not distinguish local from remote ones. Among splits of equal gain the first one
// wins: the guest's features come before the hosts', features follow the order of columns, and lower bins
// come before higher ones.
//
// Of two sibling nodes, only the smaller one is summed under encryption. The guest computes the other one in
// plaintext as the parent minus the sibling (histogram subtraction).
//
// # What each party learns
//
// A host learns the number of rows and trees. It learns which rows belong to nodes that are split further or
// by its features, as in every implementation of SecureBoost. It sees no label, gradient, guest feature or
// score.
//
// The guest learns the number of a host's features and of their bins; the sums of gradient, hessian and count
// of each bin in each node; and which rows go left at a split that it chose. It sees no name, value or
// threshold of a host feature: its model contains the number of a split, and the host's model contains what
// that number means. From the sums of a bin with few rows the guest may infer which rows they are. The order
// of bins is the order of values.
//
// # Prediction
//
// HeteroSecureBoost_predict moves rows down the trees, one level of many trees at a time. For the nodes that
// a host splits, the guest sends the rows and the number of the split, and the host answers which rows go
// left. Each party learns the same of the predicted rows as of those of the training. The host sees neither
// leaves nor scores.
//
// All parties are assumed to be semi-honest: they follow the protocol.
package boost
