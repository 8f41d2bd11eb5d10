/** Owns the promise that a component with the same properties is not drawn again by its parent. */
import { Component, type ComponentChild, type FunctionComponent, h } from "preact";

type Anything = Readonly<Record<string, unknown>>;

/** Signals read inside still redraw it; only the parent's redraw is stopped. */
export function memo<P extends object>(inner: FunctionComponent<P>): FunctionComponent<P> {
  class Memo extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const a = this.props as Anything;
      const b = next as Anything;
      const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
      for (const key of keys) if (a[key] !== b[key]) return true;
      return false;
    }
    override render(): ComponentChild {
      return h(inner, this.props as P);
    }
  }
  return Memo as unknown as FunctionComponent<P>;
}
