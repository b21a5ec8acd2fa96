package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Provider holds a vendor's algorithms at one version on one device. Metadata and descriptions are stored
// byte for byte.
type Provider struct {
	Name       string                     `json:"name"`
	Version    string                     `json:"version"`
	Device     string                     `json:"device"`
	Protocol   string                     `json:"protocol"`
	Metadata   json.RawMessage            `json:"metadata,omitempty"`
	Components map[string]json.RawMessage `json:"components"` // by the component's name
	// Images holds the ids of its images, by reference and by the runner that has resolved it.
	Images map[string]map[string]string `json:"images,omitempty"`
	// Allowed holds the exceptions from the container profile that an administrator approved. Registering the
	// provider or one of its components again takes them away.
	Allowed   bfia.Exceptions `json:"allowed,omitzero"`
	CreatedAt time.Time       `json:"-"`
	UpdatedAt time.Time       `json:"-"`
}

// ProviderFilter selects providers; an empty field matches all.
type ProviderFilter struct {
	Name, Version, Device string
}

type providerRow struct {
	bun.BaseModel `bun:"table:t_provider_info,alias:p"`

	Name      string                       `bun:"name,pk"`
	Version   string                       `bun:"version,pk"`
	Device    string                       `bun:"device,pk"`
	Protocol  string                       `bun:"protocol"`
	Metadata  string                       `bun:"metadata"`
	Images    map[string]map[string]string `bun:"images"`
	Allowed   string                       `bun:"allowed"`
	CreatedAt time.Time                    `bun:"created_at"`
	UpdatedAt time.Time                    `bun:"updated_at"`
}

type componentRow struct {
	bun.BaseModel `bun:"table:t_component_info,alias:c"`

	Provider    string `bun:"provider,pk"`
	Version     string `bun:"version,pk"`
	Device      string `bun:"device,pk"`
	Name        string `bun:"name,pk"`
	Description string `bun:"description"`
}

// PutProvider records a provider and replaces all its components. created reports whether it is new.
func (s *Store) PutProvider(ctx context.Context, p Provider) (created bool, err error) {
	return s.putProvider(ctx, p, true)
}

// PutComponents adds components to a provider, or replaces those of the same names. An existing provider
// keeps its metadata; a new one is recorded.
func (s *Store) PutComponents(ctx context.Context, p Provider) (created bool, err error) {
	return s.putProvider(ctx, p, false)
}

func (s *Store) putProvider(ctx context.Context, p Provider, replace bool) (created bool, err error) {
	texts := []string{"name", p.Name, "version", p.Version, "device", p.Device, "protocol", p.Protocol,
		"metadata", string(p.Metadata)}
	now := normalizeTime(time.Now())
	row := providerRow{
		Name: p.Name, Version: p.Version, Device: p.Device, Protocol: p.Protocol,
		Metadata:  string(p.Metadata),
		Images:    map[string]map[string]string{},
		Allowed:   bfia.Exceptions{}.String(),
		CreatedAt: now, UpdatedAt: now,
	}
	var components []componentRow
	for _, name := range slices.Sorted(maps.Keys(p.Components)) {
		desc := string(p.Components[name])
		texts = append(texts, "components_description", name, "components_description", desc)
		components = append(
			components,
			componentRow{
				Provider:    p.Name,
				Version:     p.Version,
				Device:      p.Device,
				Name:        name,
				Description: desc,
			},
		)
	}
	if err := checkText(texts...); err != nil {
		return false, err
	}
	err = s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		var err error
		if created, err = upsertProvider(ctx, tx, &row, replace); err != nil {
			return err
		}
		if replace {
			if _, err := tx.NewDelete().Model((*componentRow)(nil)).
				Where("provider = ? AND version = ? AND device = ?", p.Name, p.Version, p.Device).
				Exec(ctx); err != nil {
				return err
			}
		}
		if len(components) == 0 {
			return nil
		}
		_, err = tx.NewInsert().Model(&components).
			On("CONFLICT (provider, version, device, name) DO UPDATE").
			Set("description = EXCLUDED.description").Exec(ctx)
		return err
	})
	return created, wrap(err, "record provider %s:%s@%s", p.Name, p.Version, p.Device)
}

// upsertProvider inserts a provider's row, or updates it, and reports whether it was inserted. The update
// also locks the row, which serialises writers of the provider's components.
func upsertProvider(ctx context.Context, tx bun.Tx, row *providerRow, replace bool,
) (created bool, err error) {
	for { // again if the provider is deleted between the two statements
		insert := tx.NewInsert().Model(row).On("CONFLICT (name, version, device) DO NOTHING")
		n, err := affected(insert.Exec(ctx))
		if err != nil || n == 1 {
			return n == 1, err
		}

		update := tx.NewUpdate().Model(row).Column("updated_at", "allowed").WherePK()
		if replace {
			update.Column("protocol", "metadata", "images")
		}
		n, err = affected(update.Exec(ctx))
		if err != nil || n == 1 {
			return false, err
		}
	}
}

// Providers returns the providers that match the filter, with their components, by name, version and device.
func (s *Store) Providers(ctx context.Context, f ProviderFilter) ([]Provider, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	var rows []providerRow
	q := s.r.NewSelect().Model(&rows)
	f.where("name", func(where string, arg any) { q.Where(where, arg) })
	if err := q.Scan(ctx); err != nil {
		return nil, wrap(err, "read providers")
	}

	var components []componentRow
	q = s.r.NewSelect().Model(&components)
	f.where("provider", func(where string, arg any) { q.Where(where, arg) })
	if err := q.Scan(ctx); err != nil {
		return nil, wrap(err, "read components")
	}

	byProvider := make(map[ProviderFilter]map[string]json.RawMessage)
	for _, c := range components {
		key := ProviderFilter{Name: c.Provider, Version: c.Version, Device: c.Device}
		if byProvider[key] == nil {
			byProvider[key] = make(map[string]json.RawMessage)
		}
		byProvider[key][c.Name] = json.RawMessage(c.Description)
	}

	providers := make([]Provider, 0, len(rows))
	for _, r := range rows {
		normalizeTimes(&r.CreatedAt, &r.UpdatedAt)
		p := Provider{
			Name: r.Name, Version: r.Version, Device: r.Device, Protocol: r.Protocol,
			CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
			Components: byProvider[ProviderFilter{Name: r.Name, Version: r.Version, Device: r.Device}],
		}
		if len(r.Images) > 0 {
			p.Images = r.Images
		}
		var err error
		if p.Allowed, err = bfia.ParseExceptions(r.Allowed); err != nil {
			return nil, wrap(err, "read the exceptions of provider %s:%s@%s", r.Name, r.Version, r.Device)
		}
		if r.Metadata != "" {
			p.Metadata = json.RawMessage(r.Metadata)
		}
		providers = append(providers, p)
	}
	slices.SortFunc(providers, func(a, b Provider) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version),
			cmp.Compare(a.Device, b.Device))
	})
	return providers, nil
}

// DeleteProvider deletes the providers that match the filter, with their components, and returns how many. An
// empty filter is CodeBadRequest. Without force it returns CodeConflict, with the jobs, if unfinished jobs
// use one of them. Jobs do not need them any more: they keep what was registered at their creation.
func (s *Store) DeleteProvider(ctx context.Context, f ProviderFilter, force bool) (int, error) {
	if f == (ProviderFilter{}) {
		return 0, bfia.Errorf(bfia.CodeBadRequest,
			"name: is required, or version or device, to select the providers to delete")
	}
	if err := f.check(); err != nil {
		return 0, err
	}
	var n int
	err := s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		var rows []providerRow
		q := tx.NewSelect().Model(&rows)
		f.where("name", func(where string, arg any) { q.Where(where, arg) })
		if err := q.Scan(ctx); err != nil {
			return err
		}
		n = len(rows)
		for _, row := range rows {
			if _, err := tx.NewDelete().Model(&row).WherePK().Exec(ctx); err != nil {
				return err
			}
			if force {
				continue
			}
			users, err := jobsWithProvider(ctx, tx, ProviderFilter{Name: row.Name, Version: row.Version},
				true)
			if err != nil {
				return err
			}
			if len(users) > 0 {
				return bfia.Errorf(bfia.CodeConflict, "provider %s:%s is used by %s; delete it when no "+
					"unfinished job uses it, or with force (--force): a job keeps what was registered when it was created",
					row.Name, row.Version, DescribeUses(users))
			}
		}
		return nil
	})
	return n, wrap(err, "delete providers")
}

func (f ProviderFilter) check() error {
	return checkText("name", f.Name, "version", f.Version, "device", f.Device)
}

// where adds the filter's conditions. nameColumn is the column of the provider's name, which differs between
// tables.
func (f ProviderFilter) where(nameColumn string, add func(where string, arg any)) {
	if f.Name != "" {
		add(nameColumn+" = ?", f.Name)
	}
	if f.Version != "" {
		add("version = ?", f.Version)
	}
	if f.Device != "" {
		add("device = ?", f.Device)
	}
}

// ResolveImages records the ids to which a runner resolves images of a provider, by reference, unless the
// provider has been registered again since p was read. An image that the runner has resolved keeps its id.
func (s *Store) ResolveImages(ctx context.Context, p Provider, runnerID string,
	images map[string]string) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, found, err := lockProvider(ctx, tx, p)
		if err != nil || !found {
			return err
		}
		return row.resolve(ctx, tx, runnerID, images)
	}), "resolve the images of provider %s:%s@%s", p.Name, p.Version, p.Device)
}

// AllowProvider replaces the approved exceptions of a provider. It returns CodeConflict if the provider was
// deleted, or registered again with other metadata since p was read. Jobs keep what was approved when they
// were created.
func (s *Store) AllowProvider(ctx context.Context, p Provider, allowed bfia.Exceptions) error {
	return wrap(s.actTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		row, found, err := lockProvider(ctx, tx, p)
		if err != nil {
			return err
		}
		if !found {
			return bfia.Errorf(bfia.CodeConflict,
				"provider %s:%s@%s has changed meanwhile; look at it again before you approve it", p.Name,
				p.Version, p.Device)
		}
		row.Allowed = allowed.String()
		_, err = tx.NewUpdate().Model(&row).Column("allowed").WherePK().Exec(ctx)
		return err
	}), "approve exceptions of provider %s:%s@%s", p.Name, p.Version, p.Device)
}

// lockProvider locks and returns the row of a provider, since runners resolve its images at the same time. It
// is not found if the provider was deleted, or registered again with other metadata.
func lockProvider(ctx context.Context, tx bun.Tx, p Provider) (row providerRow, found bool, err error) {
	n, err := affected(tx.NewUpdate().Model((*providerRow)(nil)).Set("updated_at = updated_at").
		Where("name = ? AND version = ? AND device = ?", p.Name, p.Version, p.Device).Exec(ctx))
	if err != nil || n == 0 {
		return row, false, err
	}
	err = tx.NewSelect().Model(&row).Where("name = ? AND version = ? AND device = ?", p.Name, p.Version,
		p.Device).Scan(ctx)
	if err != nil || !sameJSON(row.Metadata, string(p.Metadata)) {
		return providerRow{}, false, err
	}
	return row, true, nil
}

// sameJSON compares JSON texts without the space between tokens, of which the record of a job has none.
func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	var x, y bytes.Buffer
	return json.Compact(&x, []byte(a)) == nil && json.Compact(&y, []byte(b)) == nil &&
		bytes.Equal(x.Bytes(), y.Bytes())
}

// resolve records the ids to which a runner resolves images of a locked provider.
func (r *providerRow) resolve(ctx context.Context, tx bun.Tx, runnerID string,
	images map[string]string) error {
	if r.Images == nil {
		r.Images = map[string]map[string]string{}
	}
	for ref, id := range images {
		if r.Images[ref] == nil {
			r.Images[ref] = map[string]string{}
		}
		if r.Images[ref][runnerID] == "" {
			r.Images[ref][runnerID] = id
		}
	}
	_, err := tx.NewUpdate().Model(r).Column("images").WherePK().Exec(ctx)
	return err
}

// Registrations returns when the providers of a device were registered last, by name and version.
func (s *Store) Registrations(ctx context.Context, device string) (map[ProviderFilter]time.Time, error) {
	var rows []providerRow
	if err := s.r.NewSelect().Model(&rows).Column("name", "version", "device", "updated_at").
		Where("device = ?", device).Scan(ctx); err != nil {
		return nil, wrap(err, "read when the providers were registered")
	}
	registered := map[ProviderFilter]time.Time{}
	for _, r := range rows {
		normalizeTimes(&r.UpdatedAt)
		registered[ProviderFilter{Name: r.Name, Version: r.Version, Device: r.Device}] = r.UpdatedAt
	}
	return registered, nil
}
