/** Owns the last row of a list that does not show all: the button that brings more. */

interface Props {
  readonly label: string;
  readonly more: () => void;
}

export function MoreRow({ label, more }: Props) {
  return (
    <li class="more">
      <button type="button" onClick={more}>
        {label}
      </button>
    </li>
  );
}
