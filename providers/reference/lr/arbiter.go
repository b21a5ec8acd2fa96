package lr

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"

	"golang.org/x/sync/errgroup"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/paillier"
	"hutong-reference/parallel"
)

// maxMasked limits the number of ciphertexts in one request.
const maxMasked = 1 << 24

// serveParties generates the key, sends its public part to guest and hosts, and decrypts their requests until
// each has finished. It returns the number of decrypted numbers.
func serveParties(ctx context.Context, peers component.Peers, keyBits int) (decrypted int, err error) {
	key, err := paillier.GenerateKey(keyBits)
	if err != nil {
		return 0, err
	}
	counts := make(chan int, len(peers))
	g, ctx := errgroup.WithContext(ctx)
	for who, peer := range peers {
		g.Go(func() error {
			n, err := serve(ctx, key, peer)
			counts <- n
			if err != nil {
				return fmt.Errorf("failed to serve %s: %w", who, err)
			}
			return nil
		})
	}

	err = g.Wait()
	for range peers {
		decrypted += <-counts
	}
	return decrypted, err
}

// serve answers the requests of one party.
func serve(ctx context.Context, key *paillier.PrivateKey, peer component.Peer) (decrypted int, err error) {
	head := keyHead{protocolVersion, key.N.Bytes(), key.HS.Bytes()}
	if err := peer.Send(ctx, stepKey, head, nil); err != nil {
		return 0, err
	}
	for {
		var head maskedHead
		body, err := peer.Receive(ctx, stepMasked, &head)
		if err != nil || head.End {
			return decrypted, err
		}
		if head.Count < 1 || head.Count > maxMasked {
			return decrypted, channel.Errorf(
				"%s: the request has %d numbers, which is out of range", stepMasked, head.Count,
			)
		}
		cs, err := key.DecodeCiphertexts(body, head.Count)
		if err != nil {
			return decrypted, channel.Errorf("%s: %v", stepMasked, err)
		}
		plain := make([]*big.Int, len(cs))
		err = parallel.Each(ctx, len(cs), func(i int) (err error) {
			if plain[i], err = key.Decrypt(cs[i]); err != nil {
				return channel.Errorf("%s: number %d: %v", stepMasked, i, err)
			}
			return nil
		})
		if err != nil {
			return decrypted, err
		}
		if err := peer.Send(ctx, stepPlain, plainHead{}, encodePlain(plain, key.N)); err != nil {
			return decrypted, err
		}
		decrypted += len(cs)
		slog.Debug("decrypted", "numbers", len(cs))
	}
}
