package psi

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"slices"

	"golang.org/x/sync/errgroup"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/parallel"
)

// Peer is the connection to the other party.
type Peer = component.Peer

// Options holds the parameters that must be equal at all parties.
type Options struct {
	KeyBits   int    `json:"key_bits"`   // of the host's RSA key
	Hash      string `json:"hash"`       // of ids: sha256 or sha512
	FinalHash string `json:"final_hash"` // of signatures: sha256 or sha512
	Sync      bool   `json:"sync"`       // whether the host learns the intersection
}

// batch is the number of ids that are blinded, sent and signed together.
const batch = 2048

// Steps of the exchange, as the package comment describes them.
const (
	stepKey     = "key"
	stepBlinded = "blinded"
	stepSigned  = "signed"
	stepTokens  = "tokens"
	stepMatched = "matched"
)

type keyHead struct {
	Options
	N []byte `json:"n"`
	E int    `json:"e"`
}

type batchHead struct {
	Total int `json:"total"` // total number of ids of the guest
}

type tokensHead struct{}

// exponent is the only public exponent that is accepted.
const exponent = 65537

// maxIDs limits how many ids a partner may announce.
const maxIDs = 1 << 31

// Guest runs the guest's side. It returns the positions of its ids that all hosts have, and the number of ids
// of each host.
func Guest(ctx context.Context, hosts []Peer, ids []string, o Options,
) (positions []int, hostIDs []int, err error) {
	tokens := make([][][]byte, len(hosts)) // by host and own id
	common := make([][]bool, len(hosts))
	hostIDs = make([]int, len(hosts))
	g, together := errgroup.WithContext(ctx)
	for h, peer := range hosts {
		g.Go(func() (err error) {
			tokens[h], common[h], hostIDs[h], err = intersectWith(together, peer, ids, o)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	for i := range ids {
		if !slices.ContainsFunc(common, func(c []bool) bool { return !c[i] }) {
			positions = append(positions, i)
		}
	}
	if !o.Sync {
		return positions, hostIDs, nil
	}
	for h, peer := range hosts {
		matched := make([][]byte, len(positions))
		for i, p := range positions {
			matched[i] = tokens[h][p]
		}
		slices.SortFunc(matched, bytes.Compare)
		if err := peer.Send(ctx, stepMatched, tokensHead{}, bytes.Join(matched, nil)); err != nil {
			return nil, nil, err
		}
	}
	return positions, hostIDs, nil
}

// intersectWith runs the exchange with one host. It returns the tokens of all own ids under that host's key,
// and reports for each id whether the host has it.
func intersectWith(ctx context.Context, peer Peer, ids []string, o Options,
) (tokens [][]byte, common []bool, hostIDs int, err error) {
	s, err := receiveKey(ctx, peer, o)
	if err != nil {
		return nil, nil, 0, err
	}

	// Send all batches before the first response is awaited, so that both sides compute at the same time.
	hashed, unblind, err := sendBlinded(ctx, peer, s, ids)
	if err != nil {
		return nil, nil, 0, err
	}
	if tokens, err = receiveSigned(ctx, peer, s, hashed, unblind); err != nil {
		return nil, nil, 0, err
	}

	body, err := peer.Receive(ctx, stepTokens, &tokensHead{})
	if err != nil {
		return nil, nil, 0, err
	}
	theirs, err := decodeTokens(body, s.finalHash().Size())
	if err != nil {
		return nil, nil, 0, channel.Errorf("tokens of the host: %v", err)
	}
	common = make([]bool, len(ids))
	for i, token := range tokens {
		_, common[i] = slices.BinarySearchFunc(theirs, token, bytes.Compare)
	}
	return tokens, common, len(theirs), nil
}

// receiveKey receives the host's public key and compares the parameters.
func receiveKey(ctx context.Context, peer Peer, o Options) (*scheme, error) {
	var key keyHead
	if _, err := peer.Receive(ctx, stepKey, &key); err != nil {
		return nil, err
	}
	if key.Options != o {
		return nil, channel.Errorf("guest and host have different parameters: %+v and %+v", o, key.Options)
	}
	n := new(big.Int).SetBytes(key.N)
	if n.BitLen() != o.KeyBits || n.Bit(0) == 0 || key.E != exponent {
		return nil, channel.Errorf("the host's RSA key must have %d bits and exponent %d", o.KeyBits,
			exponent)
	}
	return &scheme{n, big.NewInt(exponent), hashes[o.Hash], hashes[o.FinalHash]}, nil
}

// sendBlinded sends all ids, hashed and blinded. It returns the hashes and the numbers that remove the
// blinding.
func sendBlinded(ctx context.Context, peer Peer, s *scheme, ids []string,
) (hashed, unblind []*big.Int, err error) {
	hashed, unblind = make([]*big.Int, len(ids)), make([]*big.Int, len(ids))
	for from := 0; from < len(ids) || from == 0; from += batch {
		to := min(from+batch, len(ids))
		blinded := make([]*big.Int, to-from)
		err := parallel.Each(ctx, to-from, func(j int) error {
			i := from + j
			re, rInv, err := blindingPair(s.n, s.e)
			if err != nil {
				return err
			}
			hashed[i] = s.hashID(ids[i])
			unblind[i] = rInv
			blinded[j] = mulMod(hashed[i], re, s.n)
			return nil
		})
		if err != nil {
			return nil, nil, err
		}

		body := encodeNumbers(blinded, s.width())
		if err := peer.Send(ctx, stepBlinded, batchHead{len(ids)}, body); err != nil {
			return nil, nil, err
		}
	}
	return hashed, unblind, nil
}

// receiveSigned receives the signatures of all blinded ids. It removes the blinding, verifies the signatures
// and returns the tokens.
func receiveSigned(ctx context.Context, peer Peer, s *scheme, hashed, unblind []*big.Int,
) (tokens [][]byte, err error) {
	tokens = make([][]byte, len(hashed))
	for from := 0; from < len(hashed); from += batch {
		to := min(from+batch, len(hashed))
		body, err := peer.Receive(ctx, stepSigned, &batchHead{})
		if err != nil {
			return nil, err
		}
		signed, err := decodeNumbers(body, s.width(), s.n)
		if err == nil && len(signed) != to-from {
			err = fmt.Errorf("received %d signatures for %d ids", len(signed), to-from)
		}
		if err != nil {
			return nil, channel.Errorf("signatures of the host: %v", err)
		}

		err = parallel.Each(ctx, to-from, func(j int) error {
			i := from + j
			signature := mulMod(signed[j], unblind[i], s.n)
			if new(big.Int).Exp(signature, s.e, s.n).Cmp(hashed[i]) != 0 {
				return channel.Errorf("signatures of the host: one is not valid under its key")
			}
			tokens[i] = s.token(signature)
			return nil
		})
		if err != nil {
			return nil, err
		}
		slog.Info("signatures received", "done", to, "of", len(hashed))
	}
	return tokens, nil
}

// Host runs the host's side. It returns the positions of its ids that are in the intersection, and the number
// of ids of the guest. Without Options.Sync it returns no positions.
func Host(ctx context.Context, peer Peer, ids []string, o Options,
) (positions []int, guestIDs int, err error) {
	s, err := newSigner(o.KeyBits, o.Hash, o.FinalHash)
	if err != nil {
		return nil, 0, err
	}
	if err := peer.Send(ctx, stepKey, keyHead{o, s.n.Bytes(), exponent}, nil); err != nil {
		return nil, 0, err
	}

	own := make([]*big.Int, len(ids))
	for i, id := range ids {
		own[i] = s.hashID(id)
	}
	if err := s.sign(ctx, own); err != nil {
		return nil, 0, err
	}
	tokens := make([][]byte, len(ids))
	for i, signature := range own {
		tokens[i] = s.token(signature)
	}

	if guestIDs, err = signBatches(ctx, peer, s); err != nil {
		return nil, 0, err
	}

	sorted := slices.SortedFunc(slices.Values(tokens), bytes.Compare)
	if err := peer.Send(ctx, stepTokens, tokensHead{}, bytes.Join(sorted, nil)); err != nil {
		return nil, 0, err
	}
	if !o.Sync {
		return nil, guestIDs, nil
	}
	body, err := peer.Receive(ctx, stepMatched, &tokensHead{})
	if err != nil {
		return nil, 0, err
	}
	matched, err := decodeTokens(body, s.finalHash().Size())
	if err != nil {
		return nil, 0, channel.Errorf("intersection of the guest: %v", err)
	}
	for i, token := range tokens {
		if _, found := slices.BinarySearchFunc(matched, token, bytes.Compare); found {
			positions = append(positions, i)
		}
	}
	if len(positions) != len(matched) {
		return nil, 0, channel.Errorf("intersection of the guest: it names ids that the host does not have")
	}
	return positions, guestIDs, nil
}

// signBatches signs batches of blinded ids for the guest. The first batch announces the total number of ids;
// signBatches returns it once all are signed.
func signBatches(ctx context.Context, peer Peer, s *signer) (total int, err error) {
	for done, first := 0, true; first || done < total; first = false {
		var head batchHead
		body, err := peer.Receive(ctx, stepBlinded, &head)
		if err != nil {
			return 0, err
		}
		if first {
			total = head.Total
		}

		xs, err := decodeNumbers(body, s.width(), s.n)
		switch {
		case err != nil:
		case head.Total != total || total < 0 || total > maxIDs:
			err = fmt.Errorf("invalid total of %d ids", head.Total)
		case len(xs) != min(batch, total-done):
			err = fmt.Errorf("a batch has %d ids; expected %d", len(xs), min(batch, total-done))
		}
		if err != nil {
			return 0, channel.Errorf("blinded ids of the guest: %v", err)
		}
		if len(xs) == 0 { // the guest has no ids
			return 0, nil
		}

		if err := s.sign(ctx, xs); err != nil {
			return 0, err
		}
		if err := peer.Send(ctx, stepSigned, head, encodeNumbers(xs, s.width())); err != nil {
			return 0, err
		}

		done += len(xs)
		slog.Info("signed for the guest", "done", done, "of", total)
	}
	return total, nil
}
