// Package codec encrypts what a party stores in Temporal: the arguments and results of workflows, activities
// and signals, memos, summaries, and the words and traces of failures. Search attributes stay readable, since
// Temporal searches them; Hutong's are ids and states.
//
// A [Ring] holds the keys. Each encrypted payload names its key, so that a party can go over to another key
// while jobs run, and old histories stay readable as long as their key is in the ring. Payloads without the
// mark of this package pass through: a party can begin to encrypt at any time.
package codec
