package boost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"hutong-reference/component"
	"hutong-reference/paillier"
)

// Peer is the connection to the other side.
type Peer = component.Peer

// The guest asks, the host answers.
const (
	stepRequest = "request"
	stepAnswer  = "answer"
)

const protocolVersion = 1

// Operations of a request.
const (
	opSetup      = "setup"
	opTree       = "tree"
	opHistograms = "histograms"
	opSplit      = "split"
	opEnd        = "end"
)

// request is the head of what the guest sends. Bodies: of tree, a ciphertext for each row; of histograms and split, the row
// numbers of all nodes one after the other, 4 bytes each.
type request struct {
	Op    string     `json:"op"`
	Setup *setup     `json:"setup,omitempty"`
	Tree  int        `json:"tree,omitempty"`  // from 0
	Nodes []int      `json:"nodes,omitempty"` // rows of each node
	Cuts  []cutOrder `json:"cuts,omitempty"`  // one for each node
}

type cutOrder struct {
	Feature int `json:"feature"`
	Bin     int `json:"bin"`
}

// setup opens the training. Both sides must have been given the same agreement and hold the same rows.
type setup struct {
	Version   int       `json:"version"`
	Agreement agreement `json:"agreement"`
	Rows      int       `json:"rows"`
	RowDigest []byte    `json:"row_digest"`
	N         []byte    `json:"n"`
	HS        []byte    `json:"hs"`
}

// agreement is the parameters that the host works by.
type agreement struct {
	Trees       int     `json:"trees"`
	Bins        int     `json:"bins"`
	FeatureRate float64 `json:"feature_rate"`
	Seed        uint64  `json:"seed"`
	MaxDepth    int     `json:"max_depth"`
	KeyBits     int     `json:"key_bits"`
}

func (p Params) agreement() agreement {
	return agreement{p.Trees, p.Bins, p.FeatureRate, p.Seed, p.Tree.MaxDepth, p.KeyBits}
}

// answer is the head of what the host sends. Bodies: of histograms, packed ciphertexts; of split, one bit for each row, set
// for those that go left, each node beginning a new byte.
type answer struct {
	Bins   []int    `json:"bins,omitempty"`   // to setup: of each feature
	Filled [][]byte `json:"filled,omitempty"` // to histograms: of each node, which bins hold rows, as a bit set over all features' bins
	Splits []int    `json:"splits,omitempty"` // to split: the number of each in the host's model
}

// layout is how a row's count, hessian and gradient lie in a plaintext, wide enough to add up all rows.
func layout(rows int) (paillier.Layout, error) {
	n := bits.Len(uint(rows))
	return paillier.NewLayout(n+1, precision+n-1, precision+n+1)
}

func encodeRows(nodes [][]int32) (counts []int, body []byte) {
	for _, rows := range nodes {
		counts = append(counts, len(rows))
		for _, row := range rows {
			body = binary.BigEndian.AppendUint32(body, uint32(row))
		}
	}
	return counts, body
}

// decodeRows takes row numbers from a partner: of each node ascending, below total.
func decodeRows(counts []int, body []byte, total int) ([][]int32, error) {
	nodes := make([][]int32, len(counts))
	for n, count := range counts {
		if count < 1 || count > len(body)/4 {
			return nil, fmt.Errorf("node %d: %d rows announced, %d left", n, count, len(body)/4)
		}
		rows := make([]int32, count)
		for i := range rows {
			row := binary.BigEndian.Uint32(body[4*i:])
			if int64(row) >= int64(total) || i > 0 && int32(row) <= rows[i-1] {
				return nil, fmt.Errorf("node %d: row numbers out of range or order", n)
			}
			rows[i] = int32(row)
		}
		nodes[n], body = rows, body[4*count:]
	}
	if len(body) > 0 {
		return nil, errors.New("more rows than announced")
	}
	return nodes, nil
}

// bitset is a list of yes and no, eight in a byte, the first lowest.
type bitset []byte

func newBitset(n int) bitset    { return make(bitset, (n+7)/8) }
func (b bitset) set(i int)      { b[i/8] |= 1 << (i % 8) }
func (b bitset) has(i int) bool { return b[i/8]&(1<<(i%8)) != 0 }
func (b bitset) count(n int) (sum int) {
	for i := range n {
		if b.has(i) {
			sum++
		}
	}
	return sum
}
