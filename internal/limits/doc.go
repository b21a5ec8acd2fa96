// Package limits bounds what one caller may take from the others: requests and bytes per second, requests at
// the same time, and connections. Each caller has a budget of its own, so that one that floods a party harms
// no other.
//
// A request beyond its caller's rate is refused, with the time after which to try again. A message to the
// transport waits instead, in a fair queue ([Limiter.Queue]): sessions that are refused and try again by
// chance would get very different shares of the rate.
package limits
