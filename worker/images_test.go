package worker

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// imageDriver is a driver whose runner has some images, by reference.
type imageDriver struct {
	driver.Driver
	images map[string]string
}

func (d imageDriver) ImageID(_ context.Context, ref string) (string, error) {
	for name, id := range d.images {
		if ref == name || ref == id {
			return id, nil
		}
	}
	return "", driver.WrapError("find image", "", driver.ErrNoImage)
}

// A runner resolves the images of a provider soon after its registration, long before its next heartbeat.
func TestRegistrationResolvesImages(t *testing.T) {
	ctx, db := t.Context(), storetest.Open(t, storetest.SQLite(t))
	docker := imageDriver{images: map[string]string{"p:1": "sha256:1"}}
	a := &announcer{logger: slog.New(slog.DiscardHandler),
		runner: &runner.Runner{RunnerID: "r", Node: "A", Store: db,
			Drivers: map[string]driver.Driver{"docker": docker}},
		offer: RunnerCapacity{Slots: 1, Capacity: func(context.Context) (driver.Capacity, error) {
			return driver.Capacity{Resources: bfia.Resources{CPUMilli: 1}}, nil
		}}}
	require.NoError(t, a.announce(ctx))
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	background.Go(func() { a.sendHeartbeats(ctx) })
	defer background.Wait()
	defer cancel()

	for range 2 { // the second one replaces the first one, which forgets the ids
		_, err := db.PutProvider(ctx, store.Provider{Name: "p", Version: "1", Device: "docker",
			Metadata: json.RawMessage(`{"image":"p:1"}`),

			Components: map[string]json.RawMessage{"C": []byte("{}")}})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			found, err := db.Providers(ctx, store.ProviderFilter{Name: "p"})
			require.NoError(t, err)
			return found[0].Images["p:1"]["r"] == "sha256:1"
		}, heartbeatInterval/2, 10*time.Millisecond)
	}
}

// A heartbeat reports which images of registered providers the runner has. Each runner resolves them to ids.
// Another image under the same name changes nothing until the provider is registered again.
func TestAnnounceImages(t *testing.T) {
	ctx, db := t.Context(), storetest.Open(t, storetest.SQLite(t))
	register := func() {
		_, err := db.PutProvider(ctx, store.Provider{Name: "p", Version: "1", Device: "docker",
			Metadata: json.RawMessage(`{"image":"p:1"}`),
			Components: map[string]json.RawMessage{"C": json.RawMessage(`{}`),
				"Own": json.RawMessage(`{"imageUrl":"own:1"}`)}})
		require.NoError(t, err)
	}
	announce := func(id string, images map[string]string) map[string]string {
		a := &announcer{logger: slog.New(slog.DiscardHandler),
			runner: &runner.Runner{RunnerID: id, Machine: "m-" + id, Node: "A", Store: db,
				Drivers: map[string]driver.Driver{"docker": imageDriver{images: images}}},
			offer: RunnerCapacity{Slots: 1, Capacity: func(context.Context) (driver.Capacity, error) {
				return driver.Capacity{Resources: bfia.Resources{CPUMilli: 1}}, nil
			}}}
		require.NoError(t, a.announce(ctx))
		runners, err := db.Runners(ctx, time.Minute)
		require.NoError(t, err)
		for _, r := range runners {
			if r.RunnerID == id {
				require.Equal(t, "m-"+id, r.Machine)
				return r.Images
			}
		}
		return nil
	}
	resolved := func() map[string]map[string]string {
		found, err := db.Providers(ctx, store.ProviderFilter{Name: "p"})
		require.NoError(t, err)
		return found[0].Images
	}

	register()
	require.Empty(t, announce("a", nil))
	require.Empty(t, resolved())
	require.Equal(t, map[string]string{"p:1": "sha256:1", "sha256:1": "sha256:1"},
		announce("b", map[string]string{"p:1": "sha256:1"}))
	require.Equal(t, map[string]map[string]string{"p:1": {"b": "sha256:1"}}, resolved(),
		"the component's own image is nowhere yet")

	require.NotContains(t, announce("b", map[string]string{"p:1": "sha256:2", "own:1": "sha256:3"}),
		"sha256:1")
	require.Equal(t, map[string]map[string]string{"p:1": {"b": "sha256:1"}, "own:1": {"b": "sha256:3"}},
		resolved())
	register()
	require.Empty(t, resolved())
	announce("b", map[string]string{"p:1": "sha256:2"})
	require.Equal(t, map[string]map[string]string{"p:1": {"b": "sha256:2"}}, resolved())
}
