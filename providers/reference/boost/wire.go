package boost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"hutong-reference/component"
	"hutong-reference/paillier"
)

// Peer is the connection to the other party.
type Peer = component.Peer

// The guest sends requests, the host sends answers.
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

// request is the head of the guest's messages. The body of tree holds a ciphertext per row. The body of
// histograms and split holds the row numbers of all nodes, 4 bytes each.
type request struct {
	Op    string       `json:"op"`
	Setup *setup       `json:"setup,omitempty"`
	Tree  int          `json:"tree,omitempty"`  // from 0
	Nodes []int        `json:"nodes,omitempty"` // number of rows of each node
	Cuts  []splitOrder `json:"cuts,omitempty"`  // one per node
}

type splitOrder struct {
	Feature int `json:"feature"`
	Bin     int `json:"bin"`
}

// setup opens the training. Both parties must have equal agreements and rows.
type setup struct {
	Version   int       `json:"version"`
	Agreement agreement `json:"agreement"`
	Rows      int       `json:"rows"`
	RowDigest []byte    `json:"row_digest"`
	N         []byte    `json:"n"`
	HS        []byte    `json:"hs"`
}

// agreement holds the parameters that the host uses, too.
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

// answer is the head of the host's messages. The body of histograms holds packed ciphertexts. The body of
// split holds one bit per row, which is set if the row goes left; each node starts a new byte.
type answer struct {
	Bins   []int    `json:"bins,omitempty"`   // of setup: number of bins of each feature
	Filled [][]byte `json:"filled,omitempty"` // of histograms: for each node, the bit set of non-empty bins of all features
	Splits []int    `json:"splits,omitempty"` // of split: the numbers of the splits in the host's model
}

// layout returns the layout of count, hessian and gradient in a plaintext, wide enough for the sum of all
// rows.
func layout(rows int) (paillier.Layout, error) {
	n := bits.Len(uint(rows))
	return paillier.NewLayout(n+1, precision+n-1, precision+n+1)
}

// encodeRows encodes the row numbers of nodes.
func encodeRows(nodes [][]int32) (counts []int, body []byte) {
	for _, rows := range nodes {
		counts = append(counts, len(rows))
		for _, row := range rows {
			body = binary.BigEndian.AppendUint32(body, uint32(row))
		}
	}
	return counts, body
}

// decodeRows decodes row numbers from a partner. Those of a node must be ascending and below total.
func decodeRows(counts []int, body []byte, total int) ([][]int32, error) {
	nodes := make([][]int32, len(counts))
	for n, count := range counts {
		if count < 1 || count > len(body)/4 {
			return nil, fmt.Errorf(
				"node %d: %d rows announced, but the body has only %d left", n, count, len(body)/4,
			)
		}
		rows := make([]int32, count)
		for i := range rows {
			row := binary.BigEndian.Uint32(body[4*i:])
			if int64(row) >= int64(total) || i > 0 && int32(row) <= rows[i-1] {
				return nil, fmt.Errorf("node %d: row numbers are out of range or not ascending", n)
			}
			rows[i] = int32(row)
		}

		nodes[n], body = rows, body[4*count:]
	}

	if len(body) > 0 {
		return nil, errors.New("the body has more rows than announced")
	}
	return nodes, nil
}

// bitset holds bits, eight per byte, the first one lowest.
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
