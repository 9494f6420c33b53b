package command

import "github.com/pannier/pannier/spec/quantity"

// A Quantity is a flag of a number with a unit, for pflag's Var.
type Quantity struct {
	value *int64
	least int64
	unit  *quantity.Unit
}

// Size is a flag of a number of bytes, as "10GB", "1.5MiB" or "4096". A value
// below least is refused; one that *value has before parsing means not given.
func Size(value *int64, least int64) *Quantity { return &Quantity{value, least, &quantity.Size} }

// Rate is a flag of bits per second, as "300Mbit" or "10Gbit", at least 1.
func Rate(value *int64) *Quantity { return &Quantity{value, 1, &quantity.BitRate} }

// ByteRate is a flag of bytes per second, as "200MB/s" or "1Gbit/s", at least 1.
func ByteRate(value *int64) *Quantity { return &Quantity{value, 1, &quantity.Rate} }

// Type is the placeholder in help texts.
func (q *Quantity) Type() string { return q.unit.Name }

// String is the value in the largest unit that shows it exactly; "" for one that
// cannot be given.
func (q *Quantity) String() string {
	if q.value == nil || *q.value < q.least {
		return ""
	}
	return q.unit.Format(*q.value)
}

// Set parses text.
func (q *Quantity) Set(text string) error {
	v, err := q.unit.Parse(text)
	if err == nil && v < q.least {
		err = q.unit.Refuse(text)
	}
	if err != nil {
		return err
	}
	*q.value = v
	return nil
}
