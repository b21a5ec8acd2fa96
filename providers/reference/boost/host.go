package boost

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/big"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/paillier"
	"hutong-reference/parallel"
)

// host answers the guest's requests about its own features.
type host struct {
	peer     Peer
	owner    string // "host.0"
	features []*feature
	rowCount int
	params   Params

	key       *paillier.PublicKey
	cellBits  int // width of the plaintext of a row or bin
	sampled   []bool
	encrypted []*big.Int // of each row, in the current tree
	splits    []HostSplit
}

// serve answers requests until the guest ends the training. It returns the splits of the host's model.
func (h *host) serve(ctx context.Context, ids []string) ([]HostSplit, error) {
	h.rowCount = len(ids)
	for {
		var req request
		body, err := h.peer.Receive(ctx, stepRequest, &req)
		if err != nil {
			return nil, err
		}
		var ans answer
		var out []byte
		switch {
		case req.Op == opSetup && h.key == nil && req.Setup != nil:
			ans.Bins, err = h.setup(*req.Setup, ids)
		case req.Op == opTree && h.key != nil:
			err = h.startTree(ctx, req.Tree, body)
		case req.Op == opHistograms && h.encrypted != nil:
			ans.Filled, out, err = h.histograms(ctx, req.Nodes, body)
		case req.Op == opSplit && h.encrypted != nil:
			ans.Splits, out, err = h.split(req.Nodes, req.Cuts, body)
		case req.Op == opEnd:
			return h.splits, nil
		default:
			err = channel.Errorf("the guest sent an unexpected request %q", req.Op)
		}
		if err != nil {
			return nil, err
		}
		if err := h.peer.Send(ctx, stepAnswer, ans, out); err != nil {
			return nil, err
		}
	}
}

func (h *host) setup(s setup, ids []string) (bins []int, err error) {
	switch {
	case s.Version != protocolVersion:
		return nil, channel.Errorf(
			"the guest runs version %d of this algorithm's protocol, but the host runs version %d", s.Version,
			protocolVersion,
		)
	case s.Agreement != h.params.agreement():
		return nil, channel.Errorf(
			"guest and host have different parameters: %+v and %+v", s.Agreement, h.params.agreement(),
		)
	case s.Rows != len(ids) || !bytes.Equal(s.RowDigest, component.DigestIDs(ids)):
		return nil, channel.Errorf(
			"the rows of guest and host (%d and %d) do not have the same ids in the same order; "+
				"run Intersection first",
			s.Rows, len(ids),
		)
	}

	n := new(big.Int).SetBytes(s.N)
	if n.BitLen() != h.params.KeyBits {
		return nil, channel.Errorf("the guest's key has %d bits; %d are agreed", n.BitLen(), h.params.KeyBits)
	}
	if h.key, err = paillier.NewPublicKey(n, new(big.Int).SetBytes(s.HS)); err != nil {
		return nil, channel.Errorf("the guest's key: %v", err)
	}
	l, err := layout(len(ids))
	if err != nil {
		return nil, err
	}
	h.cellBits = l.Bits()
	for _, f := range h.features {
		bins = append(bins, f.bins())
	}
	return bins, nil
}

func (h *host) startTree(ctx context.Context, tree int, body []byte) error {
	cs, err := h.key.DecodeCiphertexts(body, h.rowCount)
	if err == nil {
		err = parallel.Each(ctx, len(cs), func(i int) error {
			if !h.key.Valid(cs[i]) {
				return fmt.Errorf("number %d is not a ciphertext of the key", i)
			}
			return nil
		})
	}
	if err != nil {
		return channel.Errorf("gradients of the guest: %v", err)
	}
	h.encrypted = cs
	h.sampled = sampleFeatures(len(h.features), h.params.FeatureRate, h.params.Seed, tree, h.owner)
	slog.Info(fmt.Sprintf("tree %d/%d", tree+1, h.params.Trees))
	return nil
}

// histograms adds ciphertexts by bin. It packs the sums of all non-empty bins into as few ciphertexts as
// possible and re-randomises them.
func (h *host) histograms(
	ctx context.Context, counts []int, body []byte,
) (filled [][]byte, out []byte, err error) {
	nodes, err := decodeRows(counts, body, h.rowCount)
	if err != nil {
		return nil, nil, channel.Errorf("histogram request of the guest: %v", err)
	}

	// sums[node*features+feature][bin]
	sums := make([][]*big.Int, len(nodes)*len(h.features))
	err = parallel.Each(ctx, len(sums), func(i int) error {
		n, f := i/len(h.features), i%len(h.features)
		sums[i] = make([]*big.Int, h.features[f].bins())
		if !h.sampled[f] {
			return nil
		}
		for _, row := range nodes[n] {
			cell := &sums[i][h.features[f].bin[row]]
			if *cell == nil {
				*cell = new(big.Int).Set(h.encrypted[row])
			} else {
				h.key.Add(*cell, *cell, h.encrypted[row])
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var cells []*big.Int
	for n := range nodes {
		features := sums[n*len(h.features) : (n+1)*len(h.features)]
		total := 0
		for _, bins := range features {
			total += len(bins)
		}
		bits, at := newBitset(total), 0
		for _, bins := range features {
			for _, cell := range bins {
				if cell != nil {
					bits.set(at)
					cells = append(cells, cell)
				}
				at++
			}
		}

		filled = append(filled, bits)
	}

	per := h.key.PackCount(h.cellBits)
	packed := make([]*big.Int, (len(cells)+per-1)/per)
	err = parallel.Each(ctx, len(packed), func(i int) (err error) {
		group := cells[i*per : min((i+1)*per, len(cells))]
		packed[i], err = h.key.Randomise(h.key.Pack(group, h.cellBits))
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return filled, h.key.EncodeCiphertexts(packed), nil
}

func (h *host) split(counts []int, cuts []splitOrder, body []byte) (numbers []int, out []byte, err error) {
	nodes, err := decodeRows(counts, body, h.rowCount)
	if err == nil && len(nodes) != len(cuts) {
		err = fmt.Errorf("received %d splits for %d nodes", len(cuts), len(nodes))
	}
	if err != nil {
		return nil, nil, channel.Errorf("split request of the guest: %v", err)
	}
	for i, c := range cuts {
		if c.Feature < 0 || c.Feature >= len(h.features) || !h.sampled[c.Feature] ||
			c.Bin < 0 || c.Bin >= len(h.features[c.Feature].cuts) {
			return nil, nil, channel.Errorf(
				"split request of the guest: number %d names an unknown feature or bin", i,
			)
		}
		f := h.features[c.Feature]
		numbers = append(numbers, len(h.splits))
		h.splits = append(h.splits, HostSplit{f.name, f.cuts[c.Bin]})
		bits := newBitset(len(nodes[i]))
		for j, left := range f.splitRows(split{c.Feature, c.Bin, nodes[i]}) {
			if left {
				bits.set(j)
			}
		}
		out = append(out, bits...)
	}
	return numbers, out, nil
}
