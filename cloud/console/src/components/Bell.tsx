/** Owns the product's mark. */
export function Bell({ size = 22 }: { readonly size?: number }) {
  return (
    <svg class="bell" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true">
      <path d="M12 2C7.600 2 5.200 5 5.200 9.300c0 4.500-1.400 6-2.700 7.700h19c-1.300-1.700-2.700-3.200-2.700-7.700C18.800 5 16.400 2 12 2z" />
      <path d="M9 19a3 3 0 0 0 6 0z" />
    </svg>
  );
}
