package lr

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

const protocolVersion = 1

// Steps of the exchange, as the package comment describes them.
const (
	stepKey    = "key"    // arbiter to guest and hosts
	stepHello  = "hello"  // among guest and hosts
	stepShares = "shares" // among guest and hosts
	stepStatus = "status" // hosts to guest
	stepNext   = "next"   // guest to hosts
	stepScores = "scores" // hosts to guest
	stepMasked = "masked" // guest and hosts to arbiter
	stepPlain  = "plain"  // arbiter to guest and hosts
)

type keyHead struct {
	Version int    `json:"version"`
	N       []byte `json:"n"`
	HS      []byte `json:"hs"`
}

type hello struct {
	Version   int       `json:"version"`
	Agreement Agreement `json:"agreement"`
	Rows      int       `json:"rows"`
	RowDigest []byte    `json:"row_digest"`
}

// position names the part of the training to which a message belongs.
type position struct {
	Iteration int `json:"iteration"`
	Batch     int `json:"batch"`
}

type nextHead struct {
	position
	Stop bool `json:"stop"`
}

type maskedHead struct {
	Count int  `json:"count"`
	End   bool `json:"end"`
}

type plainHead struct{}

// receiveCiphertexts receives count ciphertexts, which must belong to this part of the training.
func receiveCiphertexts(
	ctx context.Context, peer component.Peer, who, step string, now position, key *paillier.PublicKey,
	count int,
) ([]*big.Int, error) {
	var head position
	body, err := peer.Receive(ctx, step, &head)
	if err != nil {
		return nil, err
	}
	if head != now {
		return nil, channel.Errorf(
			"%s of %s: received iteration %d, batch %d; expected iteration %d, batch %d", step, who,
			head.Iteration, head.Batch, now.Iteration, now.Batch,
		)
	}
	cs, err := decodeValid(ctx, key, body, count)
	if err != nil {
		return nil, channel.Errorf("%s of %s: %v", step, who, err)
	}
	return cs, nil
}

// decodeValid decodes ciphertexts and checks that they are valid under the key.
func decodeValid(ctx context.Context, key *paillier.PublicKey, body []byte, count int) ([]*big.Int, error) {
	cs, err := key.DecodeCiphertexts(body, count)
	if err != nil {
		return nil, err
	}
	return cs, parallel.Each(ctx, len(cs), func(i int) error {
		if !key.Valid(cs[i]) {
			return fmt.Errorf("number %d is not a ciphertext of the key", i)
		}
		return nil
	})
}

// encodePlain encodes numbers modulo n, all with the same length.
func encodePlain(numbers []*big.Int, n *big.Int) []byte {
	width := (n.BitLen() + 7) / 8
	body := make([]byte, len(numbers)*width)
	for i, m := range numbers {
		new(big.Int).Mod(m, n).FillBytes(body[i*width : (i+1)*width])
	}
	return body
}

// decodePlain decodes numbers below n.
func decodePlain(body []byte, n *big.Int, count int) ([]*big.Int, error) {
	width := (n.BitLen() + 7) / 8
	if len(body) != count*width {
		return nil, fmt.Errorf("received %d bytes; expected %d numbers of %d bytes", len(body), count, width)
	}
	numbers := make([]*big.Int, count)
	for i := range numbers {
		numbers[i] = new(big.Int).SetBytes(body[i*width : (i+1)*width])
		if numbers[i].Cmp(n) >= 0 {
			return nil, errors.New("a number is not below the key's modulus")
		}
	}
	return numbers, nil
}
