package boost

import (
	"context"
	"errors"
	"fmt"
	"math/big"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/paillier"
	"hutong-reference/parallel"
)

// remote is a source at a host: the guest's side of the encrypted exchange.
type remote struct {
	peer      Peer
	owner     string // "host.0"
	key       *paillier.PrivateKey
	layout    paillier.Layout
	bins      []int // of each feature of the host
	gradients []sum
}

// newRemote opens the training with a host.
func newRemote(ctx context.Context, peer Peer, owner string, ids []string, p Params) (*remote, error) {
	key, err := paillier.GenerateKey(p.KeyBits)
	if err != nil {
		return nil, err
	}
	r := &remote{peer: peer, owner: owner, key: key}
	if r.layout, err = layout(len(ids)); err != nil {
		return nil, err
	}
	ans, _, err := r.call(ctx, request{Op: opSetup, Setup: &setup{
		Version: protocolVersion, Agreement: p.agreement(),
		Rows: len(ids), RowDigest: component.DigestIDs(ids),
		N: key.N.Bytes(), HS: key.HS.Bytes(),
	}}, nil)
	if err != nil {
		return nil, err
	}
	for f, bins := range ans.Bins {
		if bins < 1 || bins > p.Bins {
			return nil, channel.Errorf(
				"features of the host: number %d has %d bins; at most %d are agreed", f, bins, p.Bins,
			)
		}
	}

	r.bins = ans.Bins
	return r, nil
}

// call sends a request and receives its answer.
func (r *remote) call(ctx context.Context, req request, body []byte) (answer, []byte, error) {
	var ans answer
	if err := r.peer.Send(ctx, stepRequest, req, body); err != nil {
		return ans, nil, err
	}
	out, err := r.peer.Receive(ctx, stepAnswer, &ans)
	return ans, out, err
}

func (r *remote) startTree(ctx context.Context, tree int, gradients []sum) error {
	cs := make([]*big.Int, len(gradients))
	err := parallel.Each(ctx, len(cs), func(i int) (err error) {
		g := gradients[i]
		cs[i], err = r.key.Encrypt(r.layout.Join(g.count, g.hessian, g.gradient))
		return err
	})
	if err != nil {
		return fmt.Errorf("failed to encrypt gradients: %w", err)
	}
	r.gradients = gradients
	_, _, err = r.call(ctx, request{Op: opTree, Tree: tree}, r.key.EncodeCiphertexts(cs))
	return err
}

func (r *remote) histograms(ctx context.Context, nodes [][]int32) ([][]histogram, error) {
	counts, body := encodeRows(nodes)
	ans, body, err := r.call(ctx, request{Op: opHistograms, Nodes: counts}, body)
	if err != nil {
		return nil, err
	}
	out, err := r.unpack(ctx, nodes, ans.Filled, body)
	if err != nil {
		return nil, channel.Errorf("histograms of %s: %v", r.owner, err)
	}
	return out, nil
}

// unpack decrypts the histograms of nodes. It checks that the bins of each feature add up to the node.
func (r *remote) unpack(
	ctx context.Context, nodes [][]int32, filled [][]byte, body []byte,
) ([][]histogram, error) {
	total := 0
	for _, bins := range r.bins {
		total += bins
	}
	if len(filled) != len(nodes) {
		return nil, fmt.Errorf("received %d for %d nodes", len(filled), len(nodes))
	}
	cells := 0
	for _, bits := range filled {
		if len(bits) != len(newBitset(total)) {
			return nil, errors.New("a bit set has the wrong length")
		}
		cells += bitset(bits).count(total)
	}
	sums, err := r.decryptCells(ctx, body, cells)
	if err != nil {
		return nil, err
	}

	out := make([][]histogram, len(nodes))
	for n, rows := range nodes {
		var want sum
		for _, row := range rows {
			want = want.plus(r.gradients[row])
		}
		out[n] = make([]histogram, len(r.bins))
		at := 0
		for f, bins := range r.bins {
			var got sum
			h, some := make(histogram, bins), false
			for b := range h {
				if bitset(filled[n]).has(at) {
					h[b], sums, some = sums[0], sums[1:], true
					got = got.plus(h[b])
				}
				at++
			}
			if !some {
				continue // not sampled for this tree
			}
			if got != want {
				return nil, fmt.Errorf("node %d, feature %d: the bins do not add up to the node", n, f)
			}
			out[n][f] = h
		}
	}
	return out, nil
}

// decryptCells decrypts the sums of all non-empty bins.
func (r *remote) decryptCells(ctx context.Context, body []byte, cells int) ([]sum, error) {
	per, width := r.key.PackCount(r.layout.Bits()), r.layout.Bits()
	packed, err := r.key.DecodeCiphertexts(body, (cells+per-1)/per)
	if err != nil {
		return nil, err
	}

	sums := make([]sum, cells)
	err = parallel.Each(ctx, len(packed), func(i int) error {
		plain, err := r.key.Decrypt(packed[i])
		if err != nil {
			return err
		}
		row, err := paillier.SplitRow(plain, width, min(per, cells-i*per))
		if err != nil {
			return err
		}
		for j, cell := range row {
			v, err := r.layout.Split(cell)
			if err != nil {
				return err
			}
			sums[i*per+j] = sum{v[0], v[1], v[2]}
		}
		return nil
	})
	return sums, err
}

// split splits nodes at bins of the host's features, and returns for each the rule and which of its rows go
// left. The host's answer has a bitset of rows for each node, in the order of cuts.
func (r *remote) split(ctx context.Context, cuts []split) ([]splitResult, error) {
	nodes := make([][]int32, len(cuts))
	orders := make([]splitOrder, len(cuts))
	for i, c := range cuts {
		nodes[i], orders[i] = c.rows, splitOrder{c.feature, c.bin}
	}
	counts, body := encodeRows(nodes)
	ans, body, err := r.call(ctx, request{Op: opSplit, Nodes: counts, Cuts: orders}, body)
	if err != nil {
		return nil, err
	}
	if len(ans.Splits) != len(cuts) {
		return nil, channel.Errorf(
			"splits of %s: received %d for %d nodes", r.owner, len(ans.Splits), len(cuts),
		)
	}

	results := make([]splitResult, len(cuts))
	for i, c := range cuts {
		left := make([]bool, len(c.rows))
		if len(body) < len(newBitset(len(left))) {
			return nil, channel.Errorf("splits of %s: the answer is too short", r.owner)
		}

		leftRows := 0
		for j := range left {
			if left[j] = bitset(body).has(j); left[j] {
				leftRows++
			}
		}
		if leftRows == 0 || leftRows == len(left) {
			return nil, channel.Errorf("splits of %s: a split leaves one side empty", r.owner)
		}
		body = body[len(newBitset(len(left))):]
		results[i] = splitResult{Rule{Owner: r.owner, Split: &ans.Splits[i]}, left}
	}
	return results, nil
}

// end notifies the host of the end of the training.
func (r *remote) end(ctx context.Context) error {
	return r.peer.Send(ctx, stepRequest, request{Op: opEnd}, nil)
}
