// Package admission decides who may start: at a party, which job gets room on its hosts, and at a scheduler, whose turn it
// is. It is pure: it is given what is there and what is asked for, and answers; who asks keeps the answer in one
// transaction with what it was made from.
package admission
