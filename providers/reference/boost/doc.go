// Package boost is the component HeteroSecureBoost: gradient boosted trees (SecureBoost, Cheng et al., 2019) over a table
// whose columns lie at two parties. The guest has the label and some features, the host has other features of the same rows.
//
//	guest                                          host
//	setup: public key, options      →
//	                                      features  ←  number of bins of each feature
//	for every tree:
//	  tree: Enc(gradient, hessian, 1) of each row →
//	  for every level:
//	    histograms: rows of some nodes →
//	                                   sums of each feature's bins, encrypted and packed  ←
//	    finds the best split of each node over both parties' features
//	    split: node's rows, feature, bin →           keeps feature and threshold under a number
//	                                   which rows go left, and that number  ←
//	end                             →
//
// # It loses nothing
//
// Gradients are fixed-point numbers, so sums are exact whoever adds them, and the trees come out the same as if the joined
// table were trained in one place: a [source] offers histograms and splits, [grow] searches the sources in order and cannot
// tell a local one from a remote one. Ties go to the first: the guest's features before the host's, each in
// the order of its columns, lower bins before higher.
//
// Only one of two sibling nodes, the smaller, is ever added up under encryption: the other is the parent minus it,
// in the clear, at the guest.
//
// # What each side learns
//
// The host: how many rows and trees there are; which rows lie together in nodes that are split further or by its features (as in all
// of SecureBoost). It sees no label, gradient, guest feature or score. The guest: the number of the host's features and their bins; the sums of
// gradient, hessian and count of each bin in each node; which rows go left at a split that it chose. It sees no name, value or threshold of
// a host feature: its model has the number of a split, and the host's model what that number means. From the sums
// of a bin with few rows the guest may guess which rows they are; the order of bins is the order of values. Both sides are taken as
// semi-honest: they follow the protocol.
package boost
