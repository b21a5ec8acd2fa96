// Package outcome is what training components leave behind alike: predictions, and reports of loss, AUC and KS that a
// platform can draw without knowing the algorithm.
package outputs
