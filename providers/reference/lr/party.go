package lr

import (
	"bytes"
	"context"
	"maps"
	"math/big"
	"slices"

	"golang.org/x/sync/errgroup"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/paillier"
	"hutong-reference/parallel"
)

// party is the guest or a host: a party with features.
type party struct {
	params  Params
	self    string      // "host.0"
	names   []string    // of its features
	columns [][]float64 // of its features; at the guest the last one holds ones for the intercept
	fixed   [][]int64   // columns as fixed-point numbers
	labels  []int64     // 1 and -1 at the guest, nil at a host
	rows    int
	ids     []string
	arbiter component.Peer
	others  component.Peers // guest and hosts except itself
	guest   string          // "guest.0"
	hosts   []string        // all hosts of the task, in their order

	key     *paillier.PublicKey
	weights []float64 // of columns
	optimizer
}

// roles names the parties, such as guest.0.
type roles struct {
	guest, arbiter string
	hosts          []string
}

// newParty returns a party with the features and, at the guest, the labels.
func newParty(
	self string, all roles, peers component.Peers, p Params, ids []string, features []component.NumericColumn,
	labels []uint8,
) (*party, error) {
	w, err := newScorer(self, all, peers, p, ids, features, labels != nil && p.Intercept)
	if err != nil {
		return nil, err
	}
	for _, y := range labels {
		w.labels = append(w.labels, 2*int64(y)-1)
	}
	if fewest := w.batches()[0]; fewest.to-fewest.from <= len(w.columns) {
		return nil, channel.Errorf(
			"%s has %d features but a batch has only %d rows: the gradients would reveal each row's label; "+
				"use a larger batch_size, more rows or fewer features",
			self, len(w.columns), fewest.to-fewest.from,
		)
	}

	w.weights = slices.Repeat([]float64{p.Init}, len(w.columns))
	w.optimizer = *newOptimizer(p.Optimizer, p.LearningRate, len(w.columns))
	return w, nil
}

// newScorer returns a party that has no weights and labels yet.
func newScorer(
	self string, all roles, peers component.Peers, p Params, ids []string, features []component.NumericColumn,
	intercept bool,
) (*party, error) {
	w := &party{
		params: p, self: self, ids: ids, rows: len(ids), guest: all.guest, hosts: all.hosts,
		arbiter: peers[all.arbiter], others: maps.Clone(peers),
	}
	delete(w.others, all.arbiter)
	for _, f := range features {
		w.names = append(w.names, f.Name)
		w.columns = append(w.columns, f.Values)
	}
	if intercept {
		w.columns = append(w.columns, slices.Repeat([]float64{1}, w.rows))
	}

	w.fixed = make([][]int64, len(w.columns))
	for j, column := range w.columns {
		w.fixed[j] = make([]int64, w.rows)
		for i, x := range column {
			if x >= maxValue || x <= -maxValue {
				return nil, channel.Errorf(
					"a feature of %s has values of %d or more: standardise the features", self, maxValue,
				)
			}
			w.fixed[j][i] = toFixed(x)
		}
	}
	return w, nil
}

// batch holds the rows from..to-1.
type batch struct{ from, to int }

// batches splits the rows into batches of about equal size, the first one the smallest. A batch always has
// the same rows.
func (w *party) batches() []batch {
	size := w.params.BatchSize
	if size == 0 || size > w.rows {
		size = w.rows
	}
	count := (w.rows + size - 1) / size
	list := make([]batch, count)
	for i := range list {
		list[i] = batch{w.rows * i / count, w.rows * (i + 1) / count}
	}
	return list
}

func (w *party) isPenalised(column int) bool { return column < len(w.names) }

// handshake compares rows and parameters with the other parties and receives the arbiter's key.
func (w *party) handshake(ctx context.Context) error {
	h := hello{protocolVersion, w.params.Agreement, w.rows, component.DigestIDs(w.ids)}
	err := w.exchangeAll(ctx, func(ctx context.Context, _ string, peer component.Peer) error {
		return peer.Send(ctx, stepHello, h, nil)
	}, func(ctx context.Context, who string, peer component.Peer) error {
		var theirs hello
		if _, err := peer.Receive(ctx, stepHello, &theirs); err != nil {
			return err
		}
		switch {
		case theirs.Version != protocolVersion:
			return channel.Errorf("%s runs version %d of this algorithm's protocol, but %s runs version %d",
				who, theirs.Version, w.self, protocolVersion)
		case theirs.Agreement != h.Agreement:
			return channel.Errorf(
				"%s and %s have different parameters: %+v and %+v", w.self, who, h.Agreement,
				theirs.Agreement,
			)
		case theirs.Rows != h.Rows || !bytes.Equal(theirs.RowDigest, h.RowDigest):
			return channel.Errorf(
				"the rows of %s and %s (%d and %d) do not have the same ids in the same order; "+
					"run Intersection first",
				w.self, who, h.Rows, theirs.Rows,
			)
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.key, err = w.receiveKey(ctx)
	return err
}

// receiveKey receives the arbiter's public key.
func (w *party) receiveKey(ctx context.Context) (*paillier.PublicKey, error) {
	var k keyHead
	if _, err := w.arbiter.Receive(ctx, stepKey, &k); err != nil {
		return nil, err
	}
	n := new(big.Int).SetBytes(k.N)
	switch {
	case k.Version != protocolVersion:
		return nil, channel.Errorf(
			"the arbiter runs version %d of this algorithm's protocol, but %s runs version %d", k.Version,
			w.self, protocolVersion,
		)
	case n.BitLen() != w.params.KeyBits:
		return nil, channel.Errorf(
			"the arbiter's key has %d bits, but %s has %d: encrypt_param.key_length must be equal everywhere",
			n.BitLen(), w.self, w.params.KeyBits,
		)
	}

	key, err := paillier.NewPublicKey(n, new(big.Int).SetBytes(k.HS))
	if err != nil {
		return nil, channel.Errorf("the arbiter's key: %v", err)
	}
	return key, nil
}

// exchangeAll sends to and receives from all other parties at once, which avoids deadlocks.
func (w *party) exchangeAll(
	ctx context.Context, send, receive func(ctx context.Context, who string, peer component.Peer) error,
) error {
	g, ctx := errgroup.WithContext(ctx)
	for who, peer := range w.others {
		g.Go(func() error { return send(ctx, who, peer) })
		g.Go(func() error { return receive(ctx, who, peer) })
	}
	return g.Wait()
}

// encrypt encrypts each number.
func (w *party) encrypt(ctx context.Context, numbers []int64) ([]*big.Int, error) {
	cs := make([]*big.Int, len(numbers))
	err := parallel.Each(ctx, len(cs), func(i int) (err error) {
		cs[i], err = w.key.Encrypt(big.NewInt(numbers[i]))
		return err
	})
	return cs, err
}

// sum adds the ciphertexts of several parties row by row.
func (w *party) sum(ctx context.Context, shares [][]*big.Int) ([]*big.Int, error) {
	if len(shares) == 1 {
		return shares[0], nil
	}
	out := make([]*big.Int, len(shares[0]))
	return out, parallel.Each(ctx, len(out), func(i int) error {
		out[i] = new(big.Int).Set(shares[0][i])
		for _, s := range shares[1:] {
			w.key.Add(out[i], out[i], s[i])
		}
		return nil
	})
}

// decrypt has the arbiter decrypt numbers of the given width. It packs many numbers into one ciphertext and
// masks it.
func (w *party) decrypt(ctx context.Context, cs []*big.Int, width int) ([]*big.Int, error) {
	per := w.key.PackCount(width)
	masked := make([]*big.Int, (len(cs)+per-1)/per)
	masks := make([]*big.Int, len(masked))
	err := parallel.Each(ctx, len(masked), func(i int) (err error) {
		masked[i], masks[i], err = w.key.Mask(w.key.Pack(cs[i*per:min((i+1)*per, len(cs))], width))
		return err
	})
	if err != nil {
		return nil, err
	}
	request := w.key.EncodeCiphertexts(masked)
	if err := w.arbiter.Send(ctx, stepMasked, maskedHead{Count: len(masked)}, request); err != nil {
		return nil, err
	}
	body, err := w.arbiter.Receive(ctx, stepPlain, &plainHead{})
	if err != nil {
		return nil, err
	}
	plain, err := decodePlain(body, w.key.N, len(masked))
	if err != nil {
		return nil, channel.Errorf("numbers of the arbiter: %v", err)
	}

	var out []*big.Int
	for i, m := range plain {
		row, err := paillier.SplitRow(w.key.Unmask(m, masks[i]), width, min(per, len(cs)-len(out)))
		if err != nil {
			return nil, channel.Errorf("numbers of the arbiter: %v", err)
		}
		out = append(out, row...)
	}
	return out, nil
}

// finish notifies the arbiter that this party needs no more decryption.
func (w *party) finish(ctx context.Context) error {
	return w.arbiter.Send(ctx, stepMasked, maskedHead{End: true}, nil)
}
