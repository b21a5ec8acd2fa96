// Package outputs writes the outputs that all training components have in common: predictions, and reports of
// loss, AUC and KS. A platform can draw these reports without knowledge of the algorithm.
package outputs
