// Package limits bounds what one caller may take from the others: requests and bytes per second, requests at
// the same time, and connections. Each caller has a budget of its own, so that one that floods a party harms
// no other.
package limits
